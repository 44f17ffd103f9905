"""What Python needs to become vector machine code: instruction sets, compilation, vector registers,
thread pools, and the inner loops that several floors use. Floor 0.5: may import `values`. Read
`instruction_set.py` first, then `jit.py` and `vectors.py`.
"""
