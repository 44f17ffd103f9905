"""Data-dependent weight initialization, by principal components and least squares."""
