"""Conditioning of the language models: by text in `prompt.py`, by a melody or a recording in
`audio.py`.
"""
