"""Domain values, closed vocabularies and unit conversions. Standard library and numpy only.

Read `waveform.py` first, then `tokens.py`, `score.py`, `attributes.py`, `prompt.py`.
"""

from melisma.values.attributes import Facts
from melisma.values.prompt import Prompt
from melisma.values.score import ChordMark, Metre, Notes, Score, TempoMap, Track
from melisma.values.tokens import TokenGrid
from melisma.values.waveform import Waveform

__all__ = [
    "ChordMark",
    "Facts",
    "Metre",
    "Notes",
    "Prompt",
    "Score",
    "TempoMap",
    "TokenGrid",
    "Track",
    "Waveform",
]
