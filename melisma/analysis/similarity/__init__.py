"""Similarity of a piece to training music: indexes of clips, melodies and melody fingerprints."""
