"""Facts measured of sound: onsets, tempo, key, metre, level. Read `onsets.py` first, then
`tempo.py`."""
