"""How tokens are sampled fast: samplers, KV caches, native CPU kernels and CUDA graphs.

Floor 5: may import `lm` and what is below it. Read `generate.py` first, then `sampling.py` and
`cpu.py`. Only this folder knows its native kernels (`native`). Names are imported from their own
files: estimates of memory need no torch.
"""
