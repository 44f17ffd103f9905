"""Initial weights that are better than random: from principal components and word vectors."""
