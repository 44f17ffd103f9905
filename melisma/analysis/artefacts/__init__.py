"""Detectors of audio artefacts: clicks, dropouts, hiss, warble, stuck loops. Read `summary.py`
first."""
