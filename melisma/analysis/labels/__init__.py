"""Ground-truth labels of a performance, from its notes: per frame, and attributes of an excerpt.

Read `frame_labels.py` first, then `facts.py`.
"""
