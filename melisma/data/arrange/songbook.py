"""Songs to arrange: draws a style, a song that suits it, and perhaps a drummer's own groove.

Enters: sources. Leaves: an arranged `Score` (track 0 leads) with its style and its source.
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

ARRANGED_STYLES: tuple[str, ...] = STYLES[:8]
SONG_WEIGHTS: dict[str, float] = {"openscore_lieder": 0.55, "mutopia": 0.25, "polish_scores": 0.2}
"""Corpora that hold tunes with chords, and how often each gives one (chosen)."""
LONGEST_SONG_SECONDS = 480.0
"""Longer pieces are no songs."""
TRIES = 8
"""Songs looked at before giving up."""
GROOVE_SHARE = 0.35
"""Probability that a played groove replaces the programmed drums where one fits."""
GROOVE_STRETCH = 1.2
"""A groove is played at most this much faster or slower than it was recorded."""

_GROOVES: dict[str, str] = {
    "rock": r"^(rock|punk|pop)",
    "dance": r"^(dance|pop|hiphop)",
    "lo-fi": r"^(hiphop|soul|neworleans)",
    "ballad": r"^(soul|rock/halftime|pop|country)",
    "bossa nova": r"bossa",
    "swing": r"^jazz(?!/funk)",
    "march": r"march",
}
"""Words of groove styles that go with an arranged style."""


@dataclass(frozen=True, kw_only=True)
class Arranged:
    """One arrangement."""

    score: Score
    style: str
    source: Source
    groove: Source | None


class Songbook:
    """Draws arrangements from the songs and grooves among some sources."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._songs = {
            corpus: [
                source
                for source in sources
                if source.corpus == corpus and 15.0 <= source.seconds <= LONGEST_SONG_SECONDS
            ]
            for corpus in SONG_WEIGHTS
        }
        self._songs = {corpus: songs for corpus, songs in self._songs.items() if songs}
        self._grooves = [s for s in sources if s.corpus == "groove" and s.kind == "beat"]
        self._sheets: dict[str, LeadSheet | None] = {}

    def __len__(self) -> int:
        return sum(len(songs) for songs in self._songs.values())

    def draw(self, rng: np.random.Generator) -> Arranged | None:
        """An arrangement, styles evenly; None where no song drawn fits."""
        corpora = list(self._songs)
        weights = np.array([SONG_WEIGHTS[corpus] for corpus in corpora])
        style = str(rng.choice(ARRANGED_STYLES))
        for _ in range(TRIES):
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
                    bars = _drum_notes(groove)
                    score = arrange(sheet, style, np.random.default_rng(seed), bars)
            except ValueError:  # a tune too wide for any instrument of the style
                continue
            return Arranged(score=score, style=style, source=source, groove=groove)
        return None

    def _sheet(self, source: Source) -> LeadSheet | None:
        if source.identity not in self._sheets:
            self._sheets[source.identity] = read_lead_sheet(read_score(source))
        return self._sheets[source.identity]

    def _groove(self, style: str, score: Score, rng: np.random.Generator) -> Source | None:
        drums = any(track.is_drum for track in score.tracks)
        four = score.metres[0].bar_beats == 4.0
        if not drums or not four or style not in _GROOVES or rng.random() >= GROOVE_SHARE:
            return None
        bpm, words = float(score.tempo.bpm[0]), re.compile(_GROOVES[style])
        fitting = [
            groove
            for groove in self._grooves
            if groove.bpm is not None
            and bpm / GROOVE_STRETCH <= groove.bpm <= bpm * GROOVE_STRETCH
            and "4-4" in groove.identity
            and words.search(groove.style or "")
        ]
        return fitting[int(rng.integers(len(fitting)))] if fitting else None


def _drum_notes(groove: Source) -> Notes:
    return read_score(groove).tracks[0].notes
