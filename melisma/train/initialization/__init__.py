"""Before the first update: memory, what a run is recognized by, and data-dependent initial weights
by principal components and least squares."""
