"""Audio signal processing: resampling, spectra, filters, loudness, mastering.

Floor 1: may import `values` and `simd`. Read `spectra.py` first, then `mastering.py`.
`stored.py` and `long_mastering.py` are for sound of any length, `repair.py` for recordings.
"""
