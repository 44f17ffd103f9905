"""SIMD code generation in Python: instruction sets, numba compilation, vector registers, a thread
pool, and the matrix-product kernels that several layers of the package share.

Floor 0: may import `values`. Read `instruction_set.py` first, then `jit.py` and `vectors.py`.
"""
