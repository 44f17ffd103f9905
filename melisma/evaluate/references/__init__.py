"""Reference sets: stored measurements of held-out music that outputs are compared with."""
