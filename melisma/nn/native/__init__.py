"""A transformer's step as one native function: no interpreter between a token and the next.

Floor 1, inside `nn`. Written in Python and turned into machine code by numba's LLVM when it is
first needed: nobody needs a compiler. Read `program.py` first (what a step is made of), then
`kernels.py` (one function an operation), `vectors.py` (the inner loops of matrix products) and
`packing.py` (how weights lie in memory).
"""
