"""Generation of scores from prompts: read `pipeline.py` first, then `tasks.py`."""
