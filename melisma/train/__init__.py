"""The teacher: one loop, and one readable file per trained thing. Floor 6: may import all below 6.

Read `loop.py` first (seed, clock, checkpoint, log, averaged weights), then the file of the thing
you care for: `codec.py`, `semantic.py`, `joint.py`, `lm.py`.
"""
