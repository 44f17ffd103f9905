"""From folders of scores to batches: scan, arrange, perform, render, label, caption, shard.

Floor 3: may import the ears (`codec`, `joint`, `semantic`, `melody`, `notes`), `sound`, `nn`,
`files` and `values`. Read `clips.py` first: it is the page from which everything here is called.
"""
