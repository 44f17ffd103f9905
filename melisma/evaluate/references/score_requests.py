"""Excerpts of real pieces with their own attributes as requests, for the ceilings of scores.

Input: held-out sources. Output: pairs of `RequestedScoreAttributes` and `Score`. An attribute is
stated only where the corpus is reliable about it: tempi of OpenScore, piano-midi.de and Freedoom
where they are steady; keys of Mutopia's key signatures (which name the mode) and of titles; metres
that do not change within the excerpt. The instruments stated are all that have a part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from melisma.analysis.score.metre import BAR_BEATS
from melisma.data.arrange.songbook import Songbook
from melisma.data.sources.excerpts import correct_downbeats, cut_score
from melisma.data.sources.pieces import Source, read_score
from melisma.evaluate.metrics.score_adherence import RequestedScoreAttributes
from melisma.evaluate.models.tradition_classifier import class_of_source
from melisma.symbolic.beats import beat_grid
from melisma.symbolic.midi.conductor import DEFAULT_BPM
from melisma.values import Score
from melisma.values.attributes import PITCH_NAMES, program_family

OPENING_SECONDS = 45.0
"""Length of an excerpt (chosen: about that of a generated piece)."""
FEWEST_NOTES = 40
TRUSTED_TEMPI = (
    "openscore_lieder", "openscore_quartets", "openscore_orchestra", "piano_midi_de", "freedoom",
)  # fmt: skip
MOST_VARIATION = 0.15
"""Standard deviation of the beat's length over its median above which a tempo is rubato."""
_TITLE = re.compile(r"\bin ([A-G])[ -]?(flat|sharp|b|#)?[ -]?(major|minor)\b", re.IGNORECASE)
_MOVEMENTS = re.compile(
    r"sonat|concert|suite|symph|partita|quart|trio|quint|octet|serenade|mass|divert", re.IGNORECASE
)
"""Works whose title names the key of the first movement only."""
_SHIFTS = {"flat": -1, "b": -1, "sharp": 1, "#": 1}


def title_tonality(title: str | None) -> str | None:
    """The key in the title of a piece in one movement, e.g. "Prelude in C minor"; None if there is
    none."""
    match = _TITLE.search(title or "")
    if match is None or _MOVEMENTS.search(title or ""):
        return None
    tone = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[match.group(1).lower()]
    tone += _SHIFTS.get((match.group(2) or "").lower(), 0)
    return f"{PITCH_NAMES[tone % 12]} {match.group(3).lower()}"


def signed_tonality(source: Source) -> str | None:
    """The key of the key signature at the beginning of a piece of Mutopia, if it holds for 32
    quarter notes; None otherwise."""
    if source.corpus != "mutopia":
        return None
    keys = read_score(source).keys
    if not keys:
        return None
    first, *later = keys
    if first.beat > 0 or any(key.beat < 32 for key in later):
        return None
    minor = first.is_minor
    tone = first.sharps * 7 + (9 if minor else 0)
    return f"{PITCH_NAMES[tone % 12]} {'minor' if minor else 'major'}"


def _tempo(source: Source, score: Score) -> float | None:
    """The perceived tempo of an excerpt; None where the corpus or the beat is not reliable."""
    if source.corpus not in TRUSTED_TEMPI or not len(score.tempo.bpm):
        return None
    # The default tempo of MIDI files, alone: none is stated.
    if len(score.tempo.bpm) == 1 and score.tempo.bpm[0] == DEFAULT_BPM:
        return None
    return _steady_tempo(score)


def _steady_tempo(score: Score) -> float | None:
    gaps = np.diff(score.tempo.seconds(beat_grid(score).beats))
    if len(gaps) < 8 or gaps.std() > MOST_VARIATION * np.median(gaps):
        return None
    bpm = 60.0 / float(np.median(gaps))
    return bpm if 40.0 <= bpm <= 220.0 else None


def tempo_word(bpm: float | None) -> str | None:
    """The word for a tempo: "slow", "moderate" or "fast"; None for None."""
    if bpm is None:
        return None
    return "slow" if bpm < 78 else "moderate" if bpm < 115 else "fast"


def _metre(score: Score) -> str | None:
    grid = beat_grid(score)
    bars = np.diff(grid.bars)
    name = grid.metre
    if name is None or not len(bars) or np.abs(bars - BAR_BEATS[name]).max() > 1e-6:
        return None
    return name if abs(float(grid.bars[0])) < 1e-6 else None


def _parts(score: Score) -> tuple[str, ...]:
    """Families of the instruments that have a part."""
    return tuple(dict.fromkeys(program_family(t.program, t.is_drum) for t in score.tracks))


def opening_excerpt(score: Score) -> Score | None:
    """The first 45 seconds of a score from its first bar line on; None for fewer than
    `FEWEST_NOTES` notes."""
    score = correct_downbeats(score)
    bars = beat_grid(score).bars
    first = float(bars[0]) if len(bars) else 0.0
    begins = float(score.tempo.seconds(np.array(first)))
    stop = float(score.tempo.position_beats(np.array(begins + OPENING_SECONDS)))
    cut = cut_score(score, first, stop)
    return cut if sum(len(track.notes) for track in cut.tracks) >= FEWEST_NOTES else None


def real_excerpts(
    sources: Sequence[Source], rng: np.random.Generator, count: int
) -> list[tuple[RequestedScoreAttributes, Score]]:
    """Excerpts of at most `count` pieces in random order, with their known attributes.

    Args:
        sources: Held-out pieces; drum corpora are skipped.
        rng: Decides the order.
        count: Largest number of excerpts.
    """
    pieces: list[tuple[RequestedScoreAttributes, Score]] = []
    suited = [s for s in sources if s.corpus not in ("groove", "drum_patterns")]
    for index in rng.permutation(len(suited)):
        source = suited[int(index)]
        score = opening_excerpt(read_score(source))
        if score is None:
            continue
        tonality = title_tonality(source.title) or signed_tonality(source)
        bpm = _tempo(source, score)
        pieces.append(
            (
                RequestedScoreAttributes(
                    words=source.identity,
                    wording="real",
                    tempo_bpm=bpm,
                    tempo_word=tempo_word(bpm),
                    tonality=tonality,
                    mode=tonality.split()[1] if tonality else None,
                    metre=_metre(score),
                    families=_parts(score),
                    tradition=class_of_source(source),
                ),
                score,
            )
        )
        if len(pieces) == count:
            break
    return pieces


def arranged_songs(
    sources: Sequence[Source], rng: np.random.Generator, count: int
) -> list[tuple[RequestedScoreAttributes, Score]]:
    """Excerpts of `count` random arrangements, whose tempo and metre are exact."""
    book = Songbook(sources)
    pieces: list[tuple[RequestedScoreAttributes, Score]] = []
    while len(pieces) < count and len(book):
        arranged = book.sample(rng)
        score = None if arranged is None else opening_excerpt(arranged.score)
        if arranged is None or score is None:
            continue
        bpm = _steady_tempo(score)
        prompt = RequestedScoreAttributes(
            words=f"{arranged.style}: {arranged.source.identity}",
            wording="arranged",
            tempo_bpm=bpm,
            tempo_word=tempo_word(bpm),
            metre=_metre(score),
            families=_parts(score),
        )
        pieces.append((prompt, score))
    return pieces
