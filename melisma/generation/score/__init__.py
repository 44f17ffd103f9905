"""Generation of scores from prompts: read `pipeline.py` first, then `tasks.py` and
`given_piece.py` (a piece that is continued); `hummed.py` writes a recorded melody down."""
