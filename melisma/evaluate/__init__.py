"""Metrics over sets of pieces: judges, statistics of their figures, tables.

Floor 5: may import floors 0 to 4. Read `judge.py` first (what is asked of a piece), then
`adherence.py` (asked against heard), `statistics.py` (how sure a figure is) and `table.py` (how it
is told). `hearing.py` and `words.py` are the judge's own ears and reading; `fidelity.py`,
`retrieval.py`, `probes.py` and `free_words.py` measure the ears. `score_adherence.py` and
`makers.py` judge composed scores. The commands are in `benchmarks/`.
"""

from melisma.evaluate.judge import Judge, Verdict
from melisma.evaluate.statistics import Interval
from melisma.evaluate.table import Figure

__all__ = ["Figure", "Interval", "Judge", "Verdict"]
