"""Metrics over sets of pieces, each with its interval. Read `figures.py` first: what a metric
returns."""
