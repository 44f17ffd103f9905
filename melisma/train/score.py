"""Trains the score model: which event comes next, in pieces told plainly, given a tune, or with a
gap to fill.

Cross-entropy of every field of every event that is played (given and later ones are told, not
drawn). Every window is moved so that its tonic is C, and some to other tempi; what is said of them
moves along, and captions with exact numbers are left out where the tempo moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from melisma.lm.score.conditioning import (
    SCORE_ATTRIBUTES,
    ScoreConditions,
    ScoreDrops,
    drop_conditioning,
)
from melisma.lm.score.model import EventBatch, ScoreModel, ScoreModelSettings
from melisma.lm.score.rows import (
    GIVEN,
    LATER,
    EventSequence,
    batch_of,
    home_shift,
    infill_line,
    is_note,
    melody_line,
    plain_line,
    transposed,
)
from melisma.nn.precision import autocast
from melisma.train.datasets.score import ScoreCorpus
from melisma.train.loop import LoopSettings, Run, Task
from melisma.values.attributes import tempo_bin
from melisma.values.events import (
    BAR,
    END,
    FIELD_SIZES,
    FIRST_DRUM,
    FIRST_TEMPO,
    LENGTH,
    PART_FIELD,
    PITCH,
    POSITION,
    TEMPI,
    class_bpm,
)

NAMES = [name for name, _ in SCORE_ATTRIBUTES]
MOST_TEMPO_SHIFT = 5
"""Tempi move by up to so many classes, 12 %."""
FEWEST_ANSWERS = 8
"""Notes that must be left to play beside a given tune."""
MOST_GAP_BARS = 8
"""Longest gap to fill."""
HELD_ROUNDS, HELD_BATCH = 12, 16
"""Held-out windows that are judged: always the same."""


@dataclass(frozen=True, kw_only=True)
class ScoreTraining:
    """A training of the score model."""

    model: ScoreModelSettings = field(default_factory=ScoreModelSettings)
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(updates=10_000))
    batch: int = 16
    """Windows of an update."""
    longest: int = 512
    """Events of a window that are read; what is beyond is cut off."""
    melody: float = 0.15
    """Share of the windows with a given tune."""
    infill: float = 0.2
    """Share with a gap to fill."""
    home: bool = True
    """Whether every window moves to C; otherwise to any tonality (an arm of the benchmarks)."""
    tempo_moves: float = 0.5
    """Share of windows that move to another tempo."""
    piece_starts: float = 0.2
    """Share of the updates that see openings alone: what is told of a piece decides its beginning,
    and a long window knows itself."""
    piece_start_events: int = 112
    """Events of an opening; there are as many more of them in an update."""
    silent_bars: float = 0.2
    """Share of windows that are not told how many bars are left."""
    drop: ScoreDrops = field(default_factory=ScoreDrops)
    dropout: float = 0.05
    """Dropout of the transformer."""
    device: str = "cpu"
    """Where to train."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One window as the model meets it."""

    line: EventSequence
    bars_left: int | None
    bars_done: int
    attributes: np.ndarray
    """int64 [attribute]."""
    words: np.ndarray
    """float32 [128]; zeros where the captions no longer hold."""


class ScoreObjective(Task):
    """Next-event cross-entropy on windows."""

    kind = "score_lm"

    def __init__(self, settings: ScoreTraining, train: ScoreCorpus, held: ScoreCorpus) -> None:
        self.settings = settings
        self.train, self.held = train, held
        torch.manual_seed(settings.loop.seed)
        self.model: nn.Module = ScoreModel(settings.model).to(settings.device)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The score model."""
        return {"score": self.model}

    def settings_tree(self) -> dict[str, Any]:
        """The network's sizes."""
        return dataclasses.asdict(self.settings.model)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """One batch of windows."""
        del number
        s = self.settings
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        count = s.batch
        if rng.random() < s.piece_starts:
            count = s.batch * max(s.longest // s.piece_start_events, 1)
            s = dataclasses.replace(s, longest=s.piece_start_events, infill=0.0)
        windows = alike(self.train, count, rng)
        examples = [example_of(self.train, int(w), rng, s) for w in windows]
        told = drop_conditioning(conditions_of(self.train, windows, examples), s.drop, generator)
        by_field, notes = self.negative_log_likelihood(examples, told, s.dropout)
        loss = by_field.sum() / by_field.shape[0]
        total = float(by_field.detach().sum())
        figures = {"nats": float(loss.detach()), "nats_a_note": total / notes}
        names = ("place", "part", "pitch", "length", "velocity")
        figures |= {
            f"nats_{name}": float(one)
            for name, one in zip(names, by_field.detach().mean(dim=0), strict=True)
        }
        return {"score": loss}, figures

    def negative_log_likelihood(
        self, examples: list[Example], told: ScoreConditions, dropout: float
    ) -> tuple[Tensor, int]:
        """(negative log likelihood [event, field] of the events to be drawn, notes among them)."""
        device = torch.device(self.settings.device)
        batch = batch_of(
            [e.line for e in examples],
            [e.bars_left for e in examples],
            [e.bars_done for e in examples],
        )
        rows, roles = batch.rows, batch.roles
        counted = (
            (rows[..., POSITION] < FIELD_SIZES[POSITION]) & (roles != GIVEN) & (roles != LATER)
        )
        counted = counted[:, 1:]
        notes = int((counted & (rows[:, 1:, LENGTH] < FIRST_TEMPO)).sum())
        batch = EventBatch(**{k: v.to(device) for k, v in vars(batch).items()})
        counted = counted.to(device)
        assert isinstance(self.model, nn.Module)
        with autocast(self.settings.device):
            hidden = self.model(batch, told.to(self.settings.device), dropout)
            losses = getattr(self.model, "losses")  # noqa: B009 - also baselines have it
            nats = losses(
                hidden[:, :-1][counted], batch.rows[:, 1:][counted], batch.programs[:, 1:][counted]
            )
        return nats, notes

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Nats a note of held-out windows, plainly told, with all conditions and with none."""
        del averaged  # the loop has put the averaged weights into the model
        plain = dataclasses.replace(
            self.settings, melody=0.0, infill=0.0, tempo_moves=0.0, silent_bars=0.0
        )
        told_nats, untold_nats, notes = 0.0, 0.0, 0
        for number in range(HELD_ROUNDS):
            rng = np.random.default_rng(number)
            windows = rng.choice(
                len(self.held), min(HELD_BATCH, len(self.held)), replace=False, p=self.held.weight
            )
            examples = [example_of(self.held, int(w), rng, plain) for w in windows]
            nats, count = self.negative_log_likelihood(
                examples, conditions_of(self.held, windows, examples), 0.0
            )
            told_nats += float(nats.sum())
            nats, _ = self.negative_log_likelihood(
                examples, ScoreConditions.absent(len(windows)), 0.0
            )
            untold_nats += float(nats.sum())
            notes += count
        return {
            "nats_a_note": told_nats / max(notes, 1),
            "nats_a_note_untold": untold_nats / max(notes, 1),
        }


def example_of(
    corpus: ScoreCorpus, window: int, rng: np.random.Generator, settings: ScoreTraining
) -> Example:
    """A window moved, and told in one of the three orders."""
    s = settings
    rows, attributes, moved = moved_rows(corpus, window, rng, s.tempo_moves, s.home)
    line = plain_line(rows)
    left: int | None = int(corpus.bars_left[window])
    chance = rng.random()
    if chance < s.melody:
        line = _with_tune(line, rng)
    elif chance < s.melody + s.infill:
        line, gap_stop = _with_gap(line, rng)
        left = gap_stop if gap_stop is not None else left
    exact = corpus.exact[window]
    fitting = np.flatnonzero(~exact) if moved else np.arange(len(exact))
    words = np.zeros(corpus.words.shape[2], np.float32)
    if len(fitting):
        words = corpus.words[window, int(rng.choice(fitting))].astype(np.float32)
    return Example(
        line=line.take(np.arange(min(len(line), s.longest))),
        bars_left=None if rng.random() < s.silent_bars else left,
        bars_done=int(corpus.bars_done[window]),
        attributes=attributes,
        words=words,
    )


def alike(corpus: ScoreCorpus, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` windows of similar length, drawn by weight: little of the batch is padding."""
    pool = rng.choice(len(corpus), 4 * count, p=corpus.weight)
    lengths = corpus.spans[pool, 1] - corpus.spans[pool, 0]
    pool = pool[np.argsort(lengths, kind="stable")]
    start = int(rng.integers(3 * count + 1))
    return pool[start : start + count]


def conditions_of(
    corpus: ScoreCorpus, windows: np.ndarray, examples: list[Example]
) -> ScoreConditions:
    """What is told of each window; words are absent where no caption holds any more."""
    return ScoreConditions(
        words=torch.from_numpy(np.stack([e.words for e in examples])),
        attributes=torch.from_numpy(np.stack([e.attributes for e in examples])),
        families=torch.from_numpy(corpus.families[windows]),
        moods=torch.from_numpy(corpus.moods[windows]),
    )


def moved_rows(
    corpus: ScoreCorpus,
    window: int,
    rng: np.random.Generator,
    tempo_moves: float,
    home: bool,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """(rows, attributes, whether the tempo moved) of a window; `home`: its tonic moves to C."""
    first, stop = corpus.spans[window]
    rows = corpus.events[first:stop].astype(np.int64)
    attributes = corpus.attributes[window].copy()
    place = NAMES.index("tonality")
    tonality = int(attributes[place])
    known = tonality < SCORE_ATTRIBUTES[place][1]
    shift = home_shift(tonality) if home and known else int(rng.integers(-6, 6))
    rows = transposed(rows, shift)
    if known:
        attributes[place] = tonality // 12 * 12 + (tonality + shift) % 12
    if rng.random() >= tempo_moves:
        return rows, attributes, False
    shift = int(rng.integers(-MOST_TEMPO_SHIFT, MOST_TEMPO_SHIFT + 1))
    bars = rows[:, POSITION] == BAR
    tempi = rows[bars, LENGTH] - FIRST_TEMPO
    shift = int(np.clip(shift, -tempi.min(), TEMPI - 1 - tempi.max())) if bars.any() else 0
    rows[bars, LENGTH] += shift
    bpm = float(corpus.tempo_bpm[window])
    if np.isfinite(bpm):
        attributes[NAMES.index("tempo")] = tempo_bin(bpm * class_bpm(shift) / class_bpm(0))
    return rows, attributes, True


def _with_tune(line: EventSequence, rng: np.random.Generator) -> EventSequence:
    """The line with one part given, or its highest notes; plain where too little is left."""
    notes = is_note(line.rows) & (line.rows[:, PITCH] < FIRST_DRUM)
    parts, counts = np.unique(line.rows[notes, PART_FIELD], return_counts=True)
    parts = parts[counts >= FEWEST_ANSWERS // 2]
    if not len(parts):
        return line
    means = [line.rows[notes & (line.rows[:, PART_FIELD] == p), PITCH].mean() for p in parts]
    part = int(parts[int(np.argmax(means))] if rng.random() < 0.6 else rng.choice(parts))
    mine = np.flatnonzero(notes & (line.rows[:, PART_FIELD] == part))
    given = np.zeros(len(line), dtype=bool)
    given[mine] = True
    if len(parts) == 1 or rng.random() < 0.4:
        order = mine[np.lexsort((line.rows[mine, PITCH], line.ticks[mine]))]
        last_of_moment = np.append(np.diff(line.ticks[order]) > 0, True)
        given[:] = False
        given[order[last_of_moment]] = True
    if (is_note(line.rows) & ~given).sum() < FEWEST_ANSWERS:
        return line
    return melody_line(line, given)


def _with_gap(line: EventSequence, rng: np.random.Generator) -> tuple[EventSequence, int | None]:
    """The line with a gap told last, and the bar after it; plain where there are too few bars."""
    bars = int(line.bars.max()) + 1
    if bars < 4:
        return line, None
    gap = int(rng.integers(1, min(MOST_GAP_BARS, bars - 2) + 1))
    first = int(rng.integers(1, bars - gap + 1))
    if (line.rows[:, POSITION] == END).any() and first + gap == bars:
        return line, None
    return infill_line(line, first, first + gap), first + gap


def train_score(
    settings: ScoreTraining,
    train: ScoreCorpus,
    held: ScoreCorpus,
    folder: Path,
    start: Mapping[str, Tensor] | None = None,
) -> None:
    """Runs or resumes the score model in `folder`, from `start` or at random."""
    run = Run(ScoreObjective(settings, train, held), settings.loop, folder)
    if not run.resume() and start is not None:
        run.start_from(start)
    run.run()
