"""Neural network layers: convolution, attention, normalization, residual quantizer, T5 encoder.

Floor 1: may import `values` and `simd`. Read `convolution.py` first: it shows the streaming
interface. A streaming module offers `initial_state(batch)` and `step(block, state) -> (block,
state)`; `forward` is one step from the initial state, and the caller holds the state. `t5.py`
encodes whole texts and does not stream.
"""
