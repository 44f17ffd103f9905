"""Metrics over sets of pieces: judges, statistics of their figures, tables.

Floor 5: may import floors 0 to 4. Read `judge.py` first (what is asked of a piece), then
`statistics.py` (how sure a figure is) and `table.py` (how it is told); `hearing.py` and `words.py`
are the judge's own ears and reading.
"""

from melisma.evaluate.judge import Judge, Verdict

__all__ = ["Judge", "Verdict"]
