"""Reference sets: held-out music, measured once and kept, that outputs are compared with."""
