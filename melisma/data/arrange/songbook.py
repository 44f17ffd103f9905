"""Random arrangements: a style, a suitable song, and possibly a recorded drum groove.

Input: sources. Output: an arranged `Score` (track 0 is the lead) with its style and source.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melisma.data.arrange import LeadSheet, arrange, read_lead_sheet, styles_for
from melisma.data.sources.pieces import Source, read_score
from melisma.values import Notes, Score
from melisma.values.attributes import STYLES
from melisma.values.errors import MelismaError

ARRANGED_STYLES: tuple[str, ...] = STYLES[:8]
SONG_WEIGHTS: dict[str, float] = {"openscore_lieder": 0.55, "mutopia": 0.25, "polish_scores": 0.2}
"""Corpora of melodies with accompaniment, and the probability of each (chosen)."""
MAX_SONG_SECONDS = 480.0
"""Longer pieces are not treated as songs."""
ATTEMPTS = 8
"""Songs tried for one arrangement."""
GROOVE_SHARE = 0.35
"""Probability that a recorded groove replaces the programmed drums, if one fits."""
MAX_GROOVE_STRETCH = 1.2
"""Largest factor between the tempo of the arrangement and that of the recorded groove."""

_GROOVE_PATTERNS: dict[str, str] = {
    "rock": r"^(rock|punk|pop)",
    "dance": r"^(dance|pop|hiphop)",
    "lo-fi": r"^(hiphop|soul|neworleans)",
    "ballad": r"^(soul|rock/halftime|pop|country)",
    "bossa nova": r"bossa",
    "swing": r"^jazz(?!/funk)",
    "march": r"march",
}
"""Pattern of the groove styles that fit each arranged style."""


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """An arrangement and where it comes from."""

    score: Score
    style: str
    source: Source
    groove: Source | None
    """The recorded drum groove, if one is used."""


class Songbook:
    """Samples arrangements of the songs among some sources, with grooves among them."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._songs = {
            corpus: [
                source
                for source in sources
                if source.corpus == corpus and 15.0 <= source.seconds <= MAX_SONG_SECONDS
            ]
            for corpus in SONG_WEIGHTS
        }
        self._songs = {corpus: songs for corpus, songs in self._songs.items() if songs}
        self._grooves = [s for s in sources if s.corpus == "groove" and s.kind == "beat"]
        self._sheets: dict[str, LeadSheet | None] = {}

    def __len__(self) -> int:
        return sum(len(songs) for songs in self._songs.values())

    def sample(self, rng: np.random.Generator) -> Arrangement | None:
        """Sample an arrangement; all styles are equally likely.

        Args:
            rng: Random generator.

        Returns:
            The arrangement; None if none of `ATTEMPTS` songs fits the style.
        """
        corpora = list(self._songs)
        weights = np.array([SONG_WEIGHTS[corpus] for corpus in corpora])
        style = str(rng.choice(ARRANGED_STYLES))
        for _ in range(ATTEMPTS):
            songs = self._songs[str(rng.choice(corpora, p=weights / weights.sum()))]
            source = songs[int(rng.integers(len(songs)))]
            sheet = self._sheet(source)
            if sheet is None or style not in styles_for(sheet):
                continue
            seed = int(rng.integers(2**31))
            try:
                score = arrange(sheet, style, np.random.default_rng(seed))
                groove = self._groove(style, score, rng)
                if groove is not None:
                    drum_notes = _drum_notes(groove)
                    score = arrange(sheet, style, np.random.default_rng(seed), drum_notes)
            except MelismaError:  # the melody is too wide for the instruments of the style
                continue
            return Arrangement(score=score, style=style, source=source, groove=groove)
        return None

    def _sheet(self, source: Source) -> LeadSheet | None:
        if source.identity not in self._sheets:
            self._sheets[source.identity] = read_lead_sheet(read_score(source))
        return self._sheets[source.identity]

    def _groove(self, style: str, score: Score, rng: np.random.Generator) -> Source | None:
        drums = any(track.is_drum for track in score.tracks)
        four = score.metres[0].bar_beats == 4.0
        if not drums or not four or style not in _GROOVE_PATTERNS or rng.random() >= GROOVE_SHARE:
            return None
        bpm, pattern = float(score.tempo.bpm[0]), re.compile(_GROOVE_PATTERNS[style])
        matching = [
            groove
            for groove in self._grooves
            if groove.bpm is not None
            and bpm / MAX_GROOVE_STRETCH <= groove.bpm <= bpm * MAX_GROOVE_STRETCH
            and "4-4" in groove.identity
            and pattern.search(groove.style or "")
        ]
        return matching[int(rng.integers(len(matching)))] if matching else None


def _drum_notes(groove: Source) -> Notes:
    return read_score(groove).tracks[0].notes
