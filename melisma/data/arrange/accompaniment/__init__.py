"""Parts of a band arrangement: lead, bass, chords, drums, fills, and their balance."""
