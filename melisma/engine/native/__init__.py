"""A transformer's step as one native function: no interpreter between a token and the next.

Floor 1, inside `nn`. Written in Python and turned into machine code by numba's LLVM when it is
first needed: nobody needs a compiler. Read `program.py` first (what a step is made of), then the
operations (`operations.py`, `matmul.py`, `attention.py`, `sampler.py`), how weights and pasts lie
in memory (`packing.py`, `kv_cache.py`), and the inner loops (`simd/tiles.py`, `kv_cache.py`,
`quantization.py`, in the words of `simd/vectors.py`). `simd/selection.py` says for which
instruction set they are made.
"""
