"""A decoding step of a transformer as one native function, without the interpreter between tokens.

Inside `engine` alone. Written in Python and compiled by numba's LLVM on first use: no compiler
needs to be installed. Read `program.py` first (what a step consists of), then the operations
(`operations.py`, `matmul.py`, `attention.py`, `sampler.py`), the memory layout of weights and KV
cache (`packing.py`, `kv_cache.py`), and the kernels (`simd/tiles.py`, `kv_cache.py`,
`quantization.py`, written with `simd/vectors.py`). `simd/selection.py` selects the instruction set.
"""
