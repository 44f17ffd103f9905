"""From a prompt to a score. Read `pipeline.py` first; `tasks.py` says what is sampled."""
