"""Artefacts that no music has: clicks, dropouts, hiss, warble, stuck loops. Read `summary.py`
first."""
