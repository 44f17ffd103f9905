"""Training: one loop, and one module for each model. Floor 6: may import all floors below 6.

Read `loop.py` first (seeding, schedule, checkpoints, logs, averaged weights), then the module of
the model: `codec.py`, `semantic.py`, `text.py`, `joint.py`, `lm.py`, `score.py`, `judge.py`.
"""
