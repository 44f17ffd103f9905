"""Facts about one piece of sound or of notes: tempo, tonality, metre, faults, pictures.

Floor 3: may import floors 0 to 2. Signal processing only, nothing here is trained: these
functions also judge what the trained parts make. Read `onsets.py` first, then `tempo.py`; what is
measured from notes is in `score_tempo.py` and its neighbours, the picture in `piano_roll.py`.
`faults.py` gathers what no music has, `receipt.py` what was asked against what is there;
`clip_index.py` (with the limits of `clip_limits.py`), `melody_index.py` and `melody_prints.py` find
the training music that is near to a piece. Names are imported from their own files: some need much
of scipy, and a command that measures nothing shall not wait for it.
"""
