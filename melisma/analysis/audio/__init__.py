"""Audio analysis: onsets, beats, tempo, key, metre, level.

Read `onsets.py` first, then `tempo.py`.
"""
