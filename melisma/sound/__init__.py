"""Audio signal processing: resampling, spectra, filters, loudness, mastering.

Layer 1: may import `values` and `simd`. Read `spectra.py` first.
"""
