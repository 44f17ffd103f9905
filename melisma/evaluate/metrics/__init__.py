"""Metrics over sets of pieces, each with its interval. Read `figures.py` first: the rows that
metrics return."""
