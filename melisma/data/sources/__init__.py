"""Pieces that corpora are made from: notation with licence and composer, train and held-out splits,
excerpts, repertoires. Read `pieces.py` first.
"""
