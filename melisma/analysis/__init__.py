"""Facts about one piece of sound or of notes: tempo, tonality, metre, faults, pictures.

Floor 3: may import floors 0 to 2. Signal processing only, nothing here is trained: these functions
also judge what the trained parts make. Read `analysis/audio/onsets.py` first, then
`analysis/audio/tempo.py`; what is measured from notes is in `analysis/score/tempo.py` and its
neighbours, the picture in `analysis/plots/piano_roll.py`. `analysis/artefacts/summary.py` gathers
what no music has, `receipt.py` what was asked against what is there;
`analysis/similarity/clip_index.py` (with the limits of `analysis/similarity/clip_limits.py`),
`analysis/similarity/melody_index.py` and `analysis/similarity/melody_fingerprints.py` find the
training music that is near to a piece. Names are imported from their own files: some need much of
scipy, and a command that measures nothing shall not wait for it.
"""
