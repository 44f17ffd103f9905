"""Clip renderer: audio clips with labels, facts and captions from scores and soundfonts.

Inputs: sources and soundfonts. Outputs: `Clip`s, each a function of (seed, index) alone. For each
clip a kind, a corpus, a piece and an excerpt are sampled; the excerpt is performed, rendered,
labelled and described by captions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from melisma.analysis.labels.frame_labels import FrameLabels, frame_labels
from melisma.data.arrange.songbook import Songbook
from melisma.data.captions.writer import write_captions
from melisma.data.corpus_settings import sources_description
from melisma.data.facts import clip_facts
from melisma.data.render.acoustics import WIDE
from melisma.data.render.expressive_performance import PerformanceSettings, perform
from melisma.data.render.orchestration import OrchestrationSettings, core_program
from melisma.data.render.synthesis import Renderer, RenderVariety
from melisma.data.sources.excerpts import choose_window, correct_downbeats
from melisma.data.sources.pieces import Source, read_score
from melisma.data.sources.splits import assign_splits
from melisma.symbolic.performance import Performance
from melisma.symbolic.soundfont.fluidsynth import has_fluidsynth
from melisma.values import Facts, Score
from melisma.values.errors import MelismaError
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
"""Share of each corpus among real pieces (chosen: no corpus dominates); others get 0.05."""
GROOVE_WEIGHTS: dict[str, float] = {"groove": 0.8, "drum_patterns": 0.2}
ARRANGED_PERFORMANCE = PerformanceSettings(
    orchestration=None, lead_track=0, transpose=False, rubato=False
)
"""Arrangements have their own instruments, key and tempo already."""
ATTEMPTS = 12
"""Pieces tried for one clip before an error is raised."""
SILENCE_RMS = 0.004
"""A clip with a lower RMS level is replaced by another attempt."""

_KEYBOARD_ALONE = re.compile(
    r"^[\W\d]*(piano|pianoforte|fortepian|harpsichord|organ|organo|klavier|clavier|guitar|"
    r"classical guitar)[\W\d]*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """Which clips are rendered."""

    seed: int = 0
    seconds: float = 10.0
    split: str = "train"
    """ "train", "held" or "judge" (pieces that only judges are trained on)."""
    variety: str = WIDE
    """See `RenderVariety`."""
    kinds: Mapping[str, float] = field(
        default_factory=lambda: {"real": 0.52, "groove": 0.1, "arranged": 0.38}
    )
    """Shares of "real", "groove" and "arranged"."""
    captions: int = 4
    """Number of captions of each clip."""
    orchestration: OrchestrationSettings = field(default_factory=OrchestrationSettings)
    core_programs: bool = False
    """Whether all 128 programs are mapped to 27 (`core_program`), which are learnt sooner."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Audio with everything that is known about it."""

    sound: np.ndarray
    """int16 [sample], 24 kHz mono."""
    labels: FrameLabels
    facts: Facts
    captions: tuple[str, ...]
    row: dict[str, object]
    """Provenance: identity, group, source, licence, attribution, soundfont, first_beat,
    start_seconds, split, kind; with a recorded drum groove also drums_identity, drums_licence and
    drums_attribution. JSON values."""


@dataclass(frozen=True, kw_only=True)
class _PerformedExcerpt:
    """A performed excerpt of a piece."""

    performance: Performance
    start_seconds: float
    """Start of the clip in the performance."""
    first_beat: float
    """Beat of the piece at which the performance begins."""


class ClipRenderer:
    """Renders clips by number; the same number gives the same clip, but for what the synthesizer
    played before (mostly within 1 of int16). After `restart`, the same clips in the same order are
    the same bytes.

    Soundfonts are loaded for the first clip.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        soundfonts: Sequence[Path],
        settings: ClipSettings | None = None,
        splits: Mapping[str, str] | None = None,
    ) -> None:
        """Select the sources of a split.

        Args:
            sources: All pieces.
            soundfonts: Paths of .sf2 or .sf3 files.
            settings: Which clips to render; None: the defaults.
            splits: Identity -> split; None: computed by `assign_splits`, which searches for
                near-duplicates.

        Raises:
            MelismaError: If `settings.kinds` names an unknown kind.
        """
        self.settings = settings or ClipSettings()
        splits = assign_splits(sources) if splits is None else splits
        selected = [source for source in sources if splits[source.identity] == self.settings.split]
        unknown = set(self.settings.kinds) - {"real", "groove", "arranged"}
        if unknown:
            raise MelismaError(
                f"no kind of clip {sorted(unknown)}: known are real, groove, arranged"
            )
        self._samplers = {
            kind: _SourceSampler(selected, groove=kind == "groove") for kind in ("real", "groove")
        }
        self._songbook = Songbook(selected)
        self._sources = sources_description(selected)
        self._soundfonts = tuple(soundfonts)
        self._renderer: Renderer | None = None

    def __getstate__(self) -> dict[str, object]:
        """For workers, which load the soundfonts themselves."""
        return {**vars(self), "_renderer": None}

    def description(self) -> dict[str, Any]:
        """Everything that decides the clips, as JSON values."""
        return {
            **asdict(self.settings),
            "sources": self._sources,
            "synthesizer": "FluidSynth" if has_fluidsynth() else "own",
            "soundfonts": {path.name: path.stat().st_size for path in self._soundfonts},
        }

    def restart(self) -> None:
        """Forget what was rendered before: the next clips are those of a new renderer, exactly."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def clip(self, index: int) -> Clip:
        """Render clip number `index`.

        Raises:
            MelismaError: If the split has no source, or none of `ATTEMPTS` pieces gave a clip.
        """
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng((self.settings.seed, index, attempt))
            clip = self._attempt(rng)
            if clip is not None:
                return clip
        raise MelismaError(
            f"none of {ATTEMPTS} pieces gave a clip of {self.settings.seconds:g} seconds with "
            "music in it: the sources are too short or silent"
        )

    def _attempt(self, rng: np.random.Generator) -> Clip | None:
        sizes = {kind: len(sampler) for kind, sampler in self._samplers.items()}
        sizes["arranged"] = len(self._songbook)
        kinds = [kind for kind, share in self.settings.kinds.items() if share > 0 and sizes[kind]]
        if not kinds:
            raise MelismaError(f'no source belongs to the split "{self.settings.split}"')
        shares = np.array([self.settings.kinds[kind] for kind in kinds])
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        if kind == "arranged":
            arranged = self._songbook.sample(rng)
            if arranged is None:
                return None
            excerpt = self._perform(arranged.score, ARRANGED_PERFORMANCE, (1.0, 1.0), rng)
            clip = self._render_clip(arranged.source, kind, arranged.style, excerpt, rng)
            if clip is not None and arranged.groove is not None:
                clip.row["drums_identity"] = arranged.groove.identity
                clip.row["drums_licence"] = arranged.groove.licence
                clip.row["drums_attribution"] = arranged.groove.attribution
            return clip
        source = self._samplers[kind].sample(rng)
        score = read_score(source)
        if kind == "real":
            score = correct_downbeats(score)
        limits = (0.75, 1.35) if kind == "groove" else tempo_limits(source, score)
        is_recording = source.corpus in ("groove", "piano_midi_de")
        performance_settings = PerformanceSettings(
            orchestration=self.settings.orchestration,
            humanize=not is_recording,
            rubato=not is_recording and kind == "real",
        )
        excerpt = self._perform(score, performance_settings, limits, rng)
        return self._render_clip(source, kind, None, excerpt, rng)

    def _perform(
        self,
        score: Score,
        performance_settings: PerformanceSettings,
        limits: tuple[float, float],
        rng: np.random.Generator,
    ) -> _PerformedExcerpt:
        window = choose_window(score, self.settings.seconds, rng, *limits)
        performance = perform(window.score, rng, performance_settings, window.speed)
        if self.settings.core_programs:
            parts = tuple(
                part if part.is_drum else replace(part, program=core_program(part.program))
                for part in performance.parts
            )
            performance = replace(performance, parts=parts)
        start = window.score.tempo.seconds(np.array(window.clip_beat)) / window.speed
        return _PerformedExcerpt(
            performance=performance, start_seconds=float(start), first_beat=window.first_beat
        )

    def _render_clip(
        self,
        source: Source,
        kind: str,
        style: str | None,
        excerpt: _PerformedExcerpt,
        rng: np.random.Generator,
    ) -> Clip | None:
        settings = self.settings
        performance, start_seconds = excerpt.performance, excerpt.start_seconds
        if self._renderer is None:
            self._renderer = Renderer(self._soundfonts, RenderVariety(variety=settings.variety))
        soundfont = self._renderer.sample_soundfont(rng)
        sound = self._renderer.render(performance, start_seconds, settings.seconds, rng, soundfont)
        if float(np.sqrt(np.mean(sound**2))) < SILENCE_RMS:
            return None
        frames = round(settings.seconds * FRAME_RATE_HZ)
        labels = frame_labels(performance, start_seconds, frames)
        # Style and composer of the source do not apply to an arrangement.
        facts_source = None if kind == "arranged" else source
        facts = clip_facts(
            performance, start_seconds, settings.seconds, labels, facts_source, style
        )
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
                "soundfont": soundfont,
                "first_beat": round(excerpt.first_beat, 3),
                "start_seconds": round(start_seconds, 3),
                "split": settings.split,
                "kind": kind,
            },
        )


def tempo_limits(source: Source, score: Score) -> tuple[float, float]:
    """Range of tempo augmentation: wide if the notation does not state the tempo.

    Args:
        source: The piece.
        score: Its notation.

    Returns:
        Lowest and highest factor on the tempo.
    """
    if source.corpus == "piano_midi_de":
        return 0.8, 1.25
    if source.corpus == "mutopia" and len(score.tempo.bpm) == 1:
        # LilyPond writes 60 if no tempo is given, and most such music is faster.
        return (0.8, 2.2) if round(score.tempo.bpm[0]) == 60 else (0.6, 1.6)
    if source.corpus == "drum_patterns" or (
        source.corpus == "polish_scores" and source.tempo == "100.0"
    ):
        return 0.55, 1.75
    return 0.7, 1.45


class _SourceSampler:
    """Samples sources of one kind, weighted by corpus, length and kind."""

    def __init__(self, sources: Sequence[Source], groove: bool) -> None:
        shortest = 4.0 if groove else 9.0
        self._sources = [
            source
            for source in sources
            if (source.corpus in GROOVE_WEIGHTS) == groove and source.seconds >= shortest
        ]
        corpus_weights = GROOVE_WEIGHTS if groove else CORPUS_WEIGHTS
        weights = np.array([_weight(source) for source in self._sources])
        corpora = np.array([source.corpus for source in self._sources])
        for corpus in np.unique(corpora):
            in_corpus = corpora == corpus
            weights[in_corpus] *= (
                corpus_weights.get(cast(str, str(corpus)), 0.05) / weights[in_corpus].sum()
            )
        self._weights = weights / weights.sum() if len(weights) else weights

    def __len__(self) -> int:
        return len(self._sources)

    def sample(self, rng: np.random.Generator) -> Source:
        return self._sources[int(rng.choice(len(self._sources), p=self._weights))]


def _weight(source: Source) -> float:
    """Relative weight within a corpus: long pieces more, keyboard pieces and drum fills less."""
    weight = float(np.sqrt(min(source.seconds, 600.0)))
    if source.instruments is not None and _KEYBOARD_ALONE.match(source.instruments):
        weight *= 0.5
    if source.kind == "fill":
        weight *= 0.3
    return weight
