"""What a band plays under and around a tune: bass, chords, drums, fills, and their balance."""
