"""Score analysis from the notes alone: tempo, key, metre, instruments, structure."""
