"""Plan of a score to be sampled: its length, its parts, and whatever of its music is given.

The plan is the input of `engine/score_generate.py`; `state.py` carries it out event by event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from melisma.values.errors import MelismaError
from melisma.values.events import FIELDS, MAX_PARTS


def _no_events() -> np.ndarray:
    return np.zeros((0, FIELDS), np.int64)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Parts whose programs the model chooses: `least` to `most` of them, all from one set."""

    programs: frozenset[int]
    """General MIDI programs to choose from, `DRUM_PROGRAM` for drums."""
    least: int = 1
    most: int = 1


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """Everything that is fixed about a piece before it is sampled.

    Event rows are int [event, 5] as in `values/events.py`; those of `before`, `later` and `given`
    contain no part declarations.

    Raises:
        MelismaError: where the fields contradict each other.
    """

    bars: int
    """Number of bars to sample."""
    programs: tuple[int, ...] = ()
    """Programs of the first parts, in order (`DRUM_PROGRAM` for drums)."""
    choices: tuple[Choice, ...] = ()
    """What the model chooses further parts from. Without `programs` and `choices` it may choose any
    parts."""
    excluded: frozenset[int] = frozenset()
    """Programs that the model never chooses."""
    metres: tuple[int, ...] = ()
    """Metre of each sampled bar, the last one for all that follow; empty: the model chooses."""
    tempi: tuple[int, ...] = ()
    """Tempo class of each sampled bar, likewise."""
    before: np.ndarray = field(default_factory=_no_events)
    """Events of the whole bars that precede the sampled ones."""
    later: np.ndarray = field(default_factory=_no_events)
    """Events of the whole bars that follow the sampled ones."""
    given: tuple[np.ndarray, ...] = ()
    """Given notes of each sampled bar, int [note, 5]."""
    pitch_ranges: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Lowest and highest pitch that may be sampled, by program; unlimited for other programs."""
    polyphony: Mapping[int, int] = field(default_factory=dict)
    """Most notes of one part that may start together, by program; unlimited for other programs."""
    silent_parts: frozenset[int] = frozenset()
    """Numbers of the parts that play only what is given."""
    bars_done: int = 0
    """Bars of the piece that precede those of `before`."""
    ends: bool = True
    """Whether the piece ends with the last bar."""

    def __post_init__(self) -> None:
        if self.bars < 1:
            raise MelismaError(f"a piece has one bar or more, not {self.bars}")
        if len(self.programs) > MAX_PARTS:
            raise MelismaError(f"a piece has at most {MAX_PARTS} parts, not {len(self.programs)}")
        if (len(self.later) or self.given) and not self.metres:
            raise MelismaError("where notes are given, the metre of every bar must be given, too")
        if (len(self.before) or len(self.later) or self.given) and not self.programs:
            raise MelismaError("where notes are given, the parts that play them must be given, too")

    def metre(self, bar: int) -> int:
        """The given metre of a sampled bar (0-based)."""
        return self.metres[min(bar, len(self.metres) - 1)]

    def tempo(self, bar: int) -> int:
        """The given tempo class of a sampled bar (0-based)."""
        return self.tempi[min(bar, len(self.tempi) - 1)]
