"""A transformer's step as one native function: no interpreter between a token and the next.

Floor 1, inside `nn`. Written in Python and turned into machine code by numba's LLVM when it is
first needed: nobody needs a compiler. Read `program.py` first (what a step is made of), then the
operations (`kernels.py`, `products.py`, `attention.py`, `choosing.py`), how weights and pasts lie
in memory (`packing.py`, `past.py`), and the inner loops (`tiles.py`, `past.py`, `rounding.py`, in
the words of `vectors.py`). `selection.py` says for which instruction set they are made.
"""
