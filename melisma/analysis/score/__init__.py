"""Facts measured of a score from its notes alone: tempo, key, metre, instruments, structure."""
