"""Pure functions on sound: spectra, loudness, mastering. Floor 1: may import `values`.

Read `spectra.py` first.
"""
