"""What a model needs and what this machine has: memory estimates, hardware, micro-benchmarks."""
