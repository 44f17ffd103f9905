"""Facts of a performance from its notes: labels frame by frame, and attributes of a stretch of it.
Read `frame_labels.py` first, then `facts.py`.
"""
