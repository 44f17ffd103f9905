"""One page from which the corpus is called: from sources to clips of sound with all that is true.

Enters: sources and soundfonts. Leaves: `Clip`s, each a function of (seed, index) alone. A clip is
drawn (kind, corpus, piece, stretch), performed, rendered, labelled and put into words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from melisma.analysis.labels.frame_labels import FrameLabels, frame_labels
from melisma.data.arrange.songbook import Songbook
from melisma.data.captions.writer import write_captions
from melisma.data.facts import clip_facts
from melisma.data.render.expressive_performance import Playing, perform
from melisma.data.render.orchestration import Casting, core_program
from melisma.data.render.synthesis import Renderer, RenderVariety
from melisma.data.sources.excerpts import choose_window, settle_downbeat
from melisma.data.sources.pieces import Source, read_score
from melisma.data.sources.splits import assign_splits
from melisma.symbolic.performance import Performance
from melisma.values import Facts, Score
from melisma.values.tokens import FRAME_RATE_HZ

CORPUS_WEIGHTS: dict[str, float] = {
    "mutopia": 0.26,
    "polish_scores": 0.18,
    "openscore_lieder": 0.18,
    "freedoom": 0.11,
    "openscore_quartets": 0.09,
    "openscore_orchestra": 0.08,
    "piano_midi_de": 0.06,
    "blasphemer": 0.04,
}
"""Share of each corpus among real pieces (chosen: no single colour rules); others get 0.05."""
GROOVE_WEIGHTS: dict[str, float] = {"groove": 0.8, "drum_patterns": 0.2}
ARRANGED_PLAYING = Playing(casting=None, lead_track=0, transpose=False, rubato=False)
"""Arrangements bring their own instruments, tonality and tempo."""
ATTEMPTS = 12
"""Pieces tried for one clip before we own up to a corpus without music."""
SILENCE_RMS = 0.004
"""A quieter clip is drawn again."""

_KEYBOARD_ALONE = re.compile(
    r"^[\W\d]*(piano|pianoforte|fortepian|harpsichord|organ|organo|klavier|clavier|guitar|"
    r"classical guitar)[\W\d]*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What clips are made."""

    seed: int = 0
    seconds: float = 10.0
    split: str = "train"
    """ "train", "held" or "judge" (pieces that only judges are trained on)."""
    variety: str = "ears"
    """See `Sounding`."""
    kinds: Mapping[str, float] = field(
        default_factory=lambda: {"real": 0.52, "groove": 0.1, "arranged": 0.38}
    )
    """Shares of "real", "groove" and "arranged"."""
    captions: int = 4
    """Wordings of each clip."""
    casting: Casting = field(default_factory=Casting)
    core_programs: bool = False
    """Whether 27 programs stand for all 128 (`core_program`): a smaller world is learnt sooner."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A stretch of sound and everything true of it."""

    sound: np.ndarray
    """int16 [sample], 24 kHz mono."""
    labels: FrameLabels
    facts: Facts
    captions: tuple[str, ...]
    row: dict[str, object]
    """Provenance: identity, group, source, licence, attribution, soundfont, start_seconds, split,
    kind; and, where a played groove drums along, drums_identity, drums_licence and
    drums_attribution. Plain values, fit for JSON."""


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A performed stretch of a piece."""

    performance: Performance
    start_seconds: float
    """Where the clip begins in the performance."""
    first_beat: float
    """Beat of the piece at which the performance begins."""


class ClipRenderer:
    """Makes clip number `index`, always the same one (its sound to one unit of 16 bits).

    Soundfonts are loaded at the first clip.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        soundfonts: Sequence[Path],
        settings: ClipSettings | None = None,
        splits: Mapping[str, str] | None = None,
    ) -> None:
        """`splits` (identity -> split) saves finding twins again; see `assign_splits`."""
        self.settings = settings or ClipSettings()
        splits = assign_splits(sources) if splits is None else splits
        mine = [source for source in sources if splits[source.identity] == self.settings.split]
        unknown = set(self.settings.kinds) - {"real", "groove", "arranged"}
        if unknown:
            raise ValueError(f"no kind of clip {sorted(unknown)}: known are real, groove, arranged")
        self._pools = {kind: _Pool(mine, groove=kind == "groove") for kind in ("real", "groove")}
        self._songbook = Songbook(mine)
        self._soundfonts = tuple(soundfonts)
        self._renderer: Renderer | None = None

    def clip(self, index: int) -> Clip:
        """Clip number `index`; `ValueError` where no source yields music."""
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng((self.settings.seed, index, attempt))
            clip = self._attempt(rng)
            if clip is not None:
                return clip
        raise ValueError(
            f"none of {ATTEMPTS} pieces gave a clip of {self.settings.seconds:g} seconds with "
            "music in it: the sources are too short or silent"
        )

    def _attempt(self, rng: np.random.Generator) -> Clip | None:
        sizes = {kind: len(pool) for kind, pool in self._pools.items()}
        sizes["arranged"] = len(self._songbook)
        kinds = [kind for kind, share in self.settings.kinds.items() if share > 0 and sizes[kind]]
        if not kinds:
            raise ValueError(f'no source belongs to the split "{self.settings.split}"')
        shares = np.array([self.settings.kinds[kind] for kind in kinds])
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        if kind == "arranged":
            arranged = self._songbook.draw(rng)
            if arranged is None:
                return None
            stretch = self._perform(arranged.score, ARRANGED_PLAYING, (1.0, 1.0), rng)
            clip = self._finish(arranged.source, kind, arranged.style, stretch, rng)
            if clip is not None and arranged.groove is not None:
                clip.row["drums_identity"] = arranged.groove.identity
                clip.row["drums_licence"] = arranged.groove.licence
                clip.row["drums_attribution"] = arranged.groove.attribution
            return clip
        source = self._pools[kind].draw(rng)
        score = read_score(source)
        if kind == "real":
            score = settle_downbeat(score)
        limits = (0.75, 1.35) if kind == "groove" else tempo_limits(source, score)
        played = source.corpus in ("groove", "piano_midi_de")
        playing = Playing(
            casting=self.settings.casting, human=not played, rubato=not played and kind == "real"
        )
        stretch = self._perform(score, playing, limits, rng)
        return self._finish(source, kind, None, stretch, rng)

    def _perform(
        self,
        score: Score,
        playing: Playing,
        limits: tuple[float, float],
        rng: np.random.Generator,
    ) -> _Stretch:
        window = choose_window(score, self.settings.seconds, rng, *limits)
        performance = perform(window.score, rng, playing, window.speed)
        if self.settings.core_programs:
            parts = tuple(
                part if part.is_drum else replace(part, program=core_program(part.program))
                for part in performance.parts
            )
            performance = replace(performance, parts=parts)
        start = window.score.tempo.seconds(np.array(window.clip_beat)) / window.speed
        return _Stretch(
            performance=performance, start_seconds=float(start), first_beat=window.first_beat
        )

    def _finish(
        self,
        source: Source,
        kind: str,
        style: str | None,
        stretch: _Stretch,
        rng: np.random.Generator,
    ) -> Clip | None:
        settings = self.settings
        performance, start_seconds = stretch.performance, stretch.start_seconds
        if self._renderer is None:
            self._renderer = Renderer(self._soundfonts, RenderVariety(variety=settings.variety))
        font = self._renderer.draw_font(rng)
        sound = self._renderer.render(performance, start_seconds, settings.seconds, rng, font)
        if float(np.sqrt(np.mean(sound**2))) < SILENCE_RMS:
            return None
        frames = round(settings.seconds * FRAME_RATE_HZ)
        labels = frame_labels(performance, start_seconds, frames)
        # Nobody would call a swing version of a song by Brahms the work of Brahms.
        work = None if kind == "arranged" else source
        facts = clip_facts(performance, start_seconds, settings.seconds, labels, work, style)
        return Clip(
            sound=np.round(sound * 32767).astype(np.int16),
            labels=labels,
            facts=facts,
            captions=write_captions(facts, rng, settings.captions),
            row={
                "identity": source.identity,
                "group": source.group,
                "source": source.source_repo,
                "licence": source.licence,
                "attribution": source.attribution,
                "soundfont": font,
                "first_beat": round(stretch.first_beat, 3),
                "start_seconds": round(start_seconds, 3),
                "split": settings.split,
                "kind": kind,
            },
        )


def tempo_limits(source: Source, score: Score) -> tuple[float, float]:
    """How far the tempo may be moved: far where the notation names none."""
    if source.corpus == "piano_midi_de":
        return 0.8, 1.25
    if source.corpus == "mutopia" and len(score.tempo.bpm) == 1:
        # LilyPond writes 60 where the source is silent, and most such music is faster.
        return (0.8, 2.2) if round(score.tempo.bpm[0]) == 60 else (0.6, 1.6)
    if source.corpus == "drum_patterns" or (
        source.corpus == "polish_scores" and source.tempo == "100.0"
    ):
        return 0.55, 1.75
    return 0.7, 1.45


class _Pool:
    """Sources of one kind with their weights."""

    def __init__(self, sources: Sequence[Source], groove: bool) -> None:
        shortest = 4.0 if groove else 9.0
        self._sources = [
            source
            for source in sources
            if (source.corpus in GROOVE_WEIGHTS) == groove and source.seconds >= shortest
        ]
        weights = GROOVE_WEIGHTS if groove else CORPUS_WEIGHTS
        raw = np.array([_weight(source) for source in self._sources])
        corpora = np.array([source.corpus for source in self._sources])
        for corpus in np.unique(corpora):
            inside = corpora == corpus
            raw[inside] *= weights.get(cast(str, str(corpus)), 0.05) / raw[inside].sum()
        self._weights = raw / raw.sum() if len(raw) else raw

    def __len__(self) -> int:
        return len(self._sources)

    def draw(self, rng: np.random.Generator) -> Source:
        return self._sources[int(rng.choice(len(self._sources), p=self._weights))]


def _weight(source: Source) -> float:
    """Longer pieces more often; keyboard pieces and drum fills less often."""
    weight = float(np.sqrt(min(source.seconds, 600.0)))
    if source.instruments is not None and _KEYBOARD_ALONE.match(source.instruments):
        weight *= 0.5
    if source.kind == "fill":
        weight *= 0.3
    return weight
