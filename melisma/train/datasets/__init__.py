"""What trainings read: rows and batches of text, music and scores, in memory or from shards."""
