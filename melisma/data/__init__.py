"""Training data: read scores, arrange, perform, render, label, caption and write shards.

Layer 3: may import the tokenizers and detectors (`codec`, `joint`, `semantic`, `melody`, `notes`),
`sound`, `nn`, `files` and `values`. Read `clips.py` first: it calls everything else.
"""
