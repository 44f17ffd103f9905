"""Training: one loop, and one module for each model. Floor 8: may import all floors below.

Read `loop.py` first (seeding, schedule, checkpoints, averaged weights; `log.py` is its log), then
the module of the model: `codec.py`, `semantic.py`, `text.py`, `joint.py`, `lm.py`, `score.py`,
`judge.py`.
"""
