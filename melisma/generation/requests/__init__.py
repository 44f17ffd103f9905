"""Requests: what a person asks for as a value, and how a loaded pipeline runs it. The command line
and the Python API are thin faces of this folder.

Read `facade.py` first (`MelismaPipeline`), then `request.py` (how any request runs), `audio.py` and
`score.py`. `checks.py` and `abilities.py` refuse what cannot be served, `given.py` reads the files
that a request is given, and `routing.py` chooses between sound and score.
"""
