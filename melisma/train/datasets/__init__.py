"""Training data of the models: sentences, music features, captions and scores, in memory."""
