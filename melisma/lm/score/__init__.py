"""Score model: a Transformer over note events, its conditioning, and the grammar of its output.

Read `model.py` first; then `rows.py` (input sequences), `plan.py`, `state.py`, `prefix.py` and
`grammar.py` (what is given and what may be sampled).
"""
