"""Sources of training data: notation with licence and composer, splits, excerpts, traditions.

Read `pieces.py` first.
"""
