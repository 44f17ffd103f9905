"""Blocks without opinion: convolution, attention, norms, the residual quantizer, streaming state.

Floor 1: may import `values`. Read `convolution.py` first: it shows how anything here streams.
Everything that streams offers `initial_state(batch)` and `step(block, state) -> (block, state)`;
`forward` is one step from a fresh state, and the caller holds the state. `t5.py`, a published text
encoder, hears whole texts and does not stream.
"""
