"""Metrics over sets of pieces: judges, statistics of their figures, cards and pages.

Floor 5: may import floors 0 to 4. Read `assess.py` first: every section of a card is called from
there. `measured.py` is what is measured of one piece, by `judge.py` (with `hearing.py` and
`words.py`, its ears and its reading), `embeddings.py` and floor 3; `reference.py` and
`score_reference.py` are the real music beside it. `sound_card.py` and `score_card.py` make rows of
it with `frechet.py`, `divergence.py`, `adherence.py`, `score_adherence.py`, `wins.py` and
`bias.py`. `card.py` keeps them, `comparison.py` sets two side by side, `report.py` (with
`page.py`, `plots.py`, `verdict.py`) draws them. `prompts.py` and `outputs.py` are what is judged.

The ears themselves are measured by `fidelity.py`, `retrieval.py`, `probes.py` and `free_words.py`,
makers by `makers.py`, what the semantic stage knows by heart by `semantic_memorisation.py`; their
commands are in `benchmarks/`.
"""

from melisma.evaluate.judge import Judge, Verdict
from melisma.evaluate.statistics import Interval
from melisma.evaluate.table import Figure

__all__ = ["Figure", "Interval", "Judge", "Verdict"]
