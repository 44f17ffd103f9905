"""The score model: a Transformer over events, what it is conditioned on, and which events may come
next. Read `model.py` first.
"""
