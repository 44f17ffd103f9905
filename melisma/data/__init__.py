"""Training data: read scores, arrange, perform, render, label, caption and write shards.

Floor 5: may import floors -1 to 4. Read `clips.py` first: it renders a clip with all the others.
`audio_shards.py`, `token_shards.py` and `score_shards.py` write corpora, by `workers.py`;
`corpus_settings.py` says what a corpus is made from.
"""
