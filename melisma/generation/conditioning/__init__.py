"""From what a person gives to what the language models are conditioned on: words in `prompt.py`, a
melody or a recording in `audio.py`.
"""
