"""Conditioning of the language models by words, a melody or a recording.

Read `prompt.py` first (words become conditions), then `audio.py` (a melody, a recording),
`recording.py` (which part of a recording is continued) and `seam.py` (how new music is fitted to
it). `spoken.py` says exact settings in words; `understanding.py` says what of a prompt was
understood.

"""
