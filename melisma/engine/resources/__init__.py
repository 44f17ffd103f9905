"""Memory estimates of models, hardware detection, and micro-benchmarks of this machine."""
