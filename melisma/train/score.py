"""Training of the score model: next-event prediction for composition, accompaniment and infilling.

The loss is the cross-entropy of every field of every event that the model has to generate; given
events and those after a gap are input only. Every window is transposed to C, and some are shifted
to other tempi (data augmentation); their attributes are changed accordingly, and captions with
exact numbers are omitted where the tempo was shifted.
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
    infill_sequence,
    is_note,
    melody_sequence,
    plain_sequence,
    transposed,
)
from melisma.nn.precision import autocast
from melisma.train.datasets.score import ScoreCorpus
from melisma.train.initialization.fingerprint import other_settings
from melisma.train.initialization.memory import built
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
    tempo_class_bpm,
)

NAMES = [name for name, _ in SCORE_ATTRIBUTES]
MOST_TEMPO_SHIFT = 5
"""Largest shift of the tempo in classes, 12 %."""
FEWEST_ANSWERS = 8
"""Fewest notes that must be left to predict beside a given melody."""
MOST_GAP_BARS = 8
"""Longest gap to fill."""
HELD_ROUNDS, HELD_BATCH = 12, 16
"""Held-out batches and their windows, always the same ones."""


@dataclass(frozen=True, kw_only=True)
class ScoreTraining:
    """Settings of a training of the score model."""

    model: ScoreModelSettings = field(default_factory=ScoreModelSettings)
    """Of the network."""
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(updates=10_000))
    """Of the training loop."""
    batch: int = 16
    """Windows per update."""
    longest: int = 512
    """Most events of a window; the rest is cut off."""
    melody: float = 0.15
    """Share of the windows with a given melody."""
    infill: float = 0.2
    """Share of the windows with a gap to fill."""
    home: bool = True
    """Whether every window is transposed to C; otherwise to any key (an arm of the benchmarks)."""
    tempo_moves: float = 0.5
    """Share of the windows that are shifted to another tempo."""
    piece_starts: float = 0.2
    """Share of the updates with short windows only: conditioning matters most for the first events,
    while a long window can be predicted from itself."""
    piece_start_events: int = 112
    """Events of a short window; the batch is larger in proportion."""
    silent_bars: float = 0.2
    """Share of the windows whose number of bars left is hidden from the model."""
    drop: ScoreDrops = field(default_factory=ScoreDrops)
    """Probabilities of dropping conditions."""
    dropout: float = 0.05
    """Dropout of the transformer."""
    device: str = "cpu"
    """Device of the training."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training window."""

    sequence: EventSequence
    """The events in reading order."""
    bars_left: int | None
    """Bars from its beginning to the end of the piece; None: hidden from the model."""
    bars_done: int
    """Bars of the piece before it."""
    attributes: np.ndarray
    """int64 [attribute]."""
    words: np.ndarray
    """Text embedding of a caption, float32 [128]; zeros if no caption is valid."""


class ScoreObjective(Task):
    """Next-event cross-entropy on windows."""

    kind = "score_lm"

    def __init__(self, settings: ScoreTraining, train: ScoreCorpus, held: ScoreCorpus) -> None:
        self.settings = settings
        self.train, self.held = train, held
        torch.manual_seed(settings.loop.seed)
        self.model: nn.Module = built(lambda: ScoreModel(settings.model), settings.device)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The score model."""
        return {"score": self.model}

    def settings_tree(self) -> dict[str, Any]:
        """Settings of the network."""
        return dataclasses.asdict(self.settings.model)

    def training_settings(self) -> dict[str, Any]:
        """The other settings, and a fingerprint of the windows."""
        return other_settings(self.settings, self.train)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Losses of one batch of windows."""
        del number
        s = self.settings
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        count = s.batch
        if rng.random() < s.piece_starts:
            count = s.batch * max(s.longest // s.piece_start_events, 1)
            s = dataclasses.replace(s, longest=s.piece_start_events, infill=0.0)
        windows = similar_lengths(self.train, count, rng)
        examples = [example_of(self.train, int(w), rng, s) for w in windows]
        conditions = conditions_of(self.train, windows, examples)
        conditions = drop_conditioning(conditions, s.drop, generator)
        by_field, notes = self.negative_log_likelihood(examples, conditions, s.dropout)
        if not len(by_field):  # given and later events alone: nothing to learn from
            return {}, {"empty_batch": 1.0}
        loss = by_field.sum() / by_field.shape[0]
        total = float(by_field.detach().sum())
        per_note = total / notes if notes else float("nan")  # parts and bars alone
        figures = {"nats": float(loss.detach()), "nats_a_note": per_note}
        names = ("place", "part", "pitch", "length", "velocity")
        figures |= {
            f"nats_{name}": float(one)
            for name, one in zip(names, by_field.detach().mean(dim=0), strict=True)
        }
        return {"score": loss}, figures

    def negative_log_likelihood(
        self, examples: list[Example], conditions: ScoreConditions, dropout: float
    ) -> tuple[Tensor, int]:
        """Negative log-likelihood of the events that the model has to generate.

        Args:
            examples: the windows.
            conditions: one row for each window.
            dropout: of the Transformer.

        Returns:
            (loss float32 [event, field] in nats, number of notes among the events).
        """
        device = torch.device(self.settings.device)
        batch = batch_of(
            [e.sequence for e in examples],
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
            hidden = self.model(batch, conditions.to(self.settings.device), dropout)
            losses = getattr(self.model, "losses")  # noqa: B009 - baselines have it, too
            by_field = losses(
                hidden[:, :-1][counted], batch.rows[:, 1:][counted], batch.programs[:, 1:][counted]
            )
        return by_field, notes

    @torch.no_grad()
    def judge(self, averaged: nn.Module) -> dict[str, float]:
        """Loss per note of held-out windows in plain order, conditional and unconditional."""
        del averaged  # the loop has put the averaged weights into the model
        plain = dataclasses.replace(
            self.settings, melody=0.0, infill=0.0, tempo_moves=0.0, silent_bars=0.0
        )
        conditional, unconditional, notes = 0.0, 0.0, 0
        for number in range(HELD_ROUNDS):
            rng = np.random.default_rng(number)
            windows = rng.choice(
                len(self.held), min(HELD_BATCH, len(self.held)), replace=False, p=self.held.weight
            )
            examples = [example_of(self.held, int(w), rng, plain) for w in windows]
            by_field, count = self.negative_log_likelihood(
                examples, conditions_of(self.held, windows, examples), 0.0
            )
            conditional += float(by_field.sum())
            by_field, _ = self.negative_log_likelihood(
                examples, ScoreConditions.absent(len(windows)), 0.0
            )
            unconditional += float(by_field.sum())
            notes += count
        return {
            "nats_a_note": conditional / max(notes, 1),
            "nats_a_note_unconditional": unconditional / max(notes, 1),
        }


def example_of(
    corpus: ScoreCorpus, window: int, rng: np.random.Generator, settings: ScoreTraining
) -> Example:
    """Augments a window and puts it into one of the three orders.

    Args:
        corpus: the windows.
        window: index of the window.
        rng: of all random choices.
        settings: shares of the orders and of augmentation.
    """
    s = settings
    rows, attributes, tempo_moved = moved_rows(corpus, window, rng, s.tempo_moves, s.home)
    sequence = plain_sequence(rows)
    left: int | None = int(corpus.bars_left[window])
    chance = rng.random()
    if chance < s.melody:
        sequence = _with_melody(sequence, rng)
    elif chance < s.melody + s.infill:
        sequence, gap_stop = _with_gap(sequence, rng)
        left = gap_stop if gap_stop is not None else left
    exact = corpus.exact[window]
    valid = np.flatnonzero(~exact) if tempo_moved else np.arange(len(exact))
    words = np.zeros(corpus.words.shape[2], np.float32)
    if len(valid):
        words = corpus.words[window, int(rng.choice(valid))].astype(np.float32)
    return Example(
        sequence=sequence.take(np.arange(min(len(sequence), s.longest))),
        bars_left=None if rng.random() < s.silent_bars else left,
        bars_done=int(corpus.bars_done[window]),
        attributes=attributes,
        words=words,
    )


def similar_lengths(corpus: ScoreCorpus, count: int, rng: np.random.Generator) -> np.ndarray:
    """Samples windows of similar length, so that a batch has little padding.

    Returns:
        int64 [count], indices sampled by the corpus's weights.
    """
    pool = rng.choice(len(corpus), 4 * count, p=corpus.weight)
    lengths = corpus.spans[pool, 1] - corpus.spans[pool, 0]
    pool = pool[np.argsort(lengths, kind="stable")]
    start = int(rng.integers(3 * count + 1))
    return pool[start : start + count]


def conditions_of(
    corpus: ScoreCorpus, windows: np.ndarray, examples: list[Example]
) -> ScoreConditions:
    """The conditions of windows (indices [window]) and their examples, one row each."""
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
    """Transposes a window, and shifts its tempo at random.

    Args:
        corpus: the windows.
        window: index of the window.
        rng: of all random choices.
        tempo_moves: probability of a shift of the tempo.
        home: transpose to C; otherwise, and where the key is unknown, by a random interval.

    Returns:
        (rows int64 [event, 5], attributes int64 [attribute], whether the tempo was shifted).
    """
    first, stop = corpus.spans[window]
    rows = corpus.events[first:stop].astype(np.int64)
    attributes = corpus.attributes[window].copy()
    index = NAMES.index("tonality")
    tonality = int(attributes[index])
    known = tonality < SCORE_ATTRIBUTES[index][1]
    shift = home_shift(tonality) if home and known else int(rng.integers(-6, 6))
    rows = transposed(rows, shift)
    if known:
        attributes[index] = tonality // 12 * 12 + (tonality + shift) % 12
    if rng.random() >= tempo_moves:
        return rows, attributes, False
    shift = int(rng.integers(-MOST_TEMPO_SHIFT, MOST_TEMPO_SHIFT + 1))
    bars = rows[:, POSITION] == BAR
    tempi = rows[bars, LENGTH] - FIRST_TEMPO
    shift = int(np.clip(shift, -tempi.min(), TEMPI - 1 - tempi.max())) if bars.any() else 0
    rows[bars, LENGTH] += shift
    bpm = float(corpus.tempo_bpm[window])
    if np.isfinite(bpm):
        attributes[NAMES.index("tempo")] = tempo_bin(
            bpm * tempo_class_bpm(shift) / tempo_class_bpm(0)
        )
    return rows, attributes, True


def _with_melody(plain: EventSequence, rng: np.random.Generator) -> EventSequence:
    """Gives one part or its highest notes as a melody; unchanged if too few notes are left."""
    rows = plain.rows
    notes = is_note(rows) & (rows[:, PITCH] < FIRST_DRUM)
    parts, counts = np.unique(rows[notes, PART_FIELD], return_counts=True)
    parts = parts[counts >= FEWEST_ANSWERS // 2]
    if not len(parts):
        return plain
    means = [rows[notes & (rows[:, PART_FIELD] == p), PITCH].mean() for p in parts]
    part = int(parts[int(np.argmax(means))] if rng.random() < 0.6 else rng.choice(parts))
    mine = np.flatnonzero(notes & (rows[:, PART_FIELD] == part))
    given = np.zeros(len(plain), dtype=bool)
    given[mine] = True
    if len(parts) == 1 or rng.random() < 0.4:
        order = mine[np.lexsort((rows[mine, PITCH], plain.ticks[mine]))]
        highest = np.append(np.diff(plain.ticks[order]) > 0, True)
        given[:] = False
        given[order[highest]] = True
    if (is_note(rows) & ~given).sum() < FEWEST_ANSWERS:
        return plain
    return melody_sequence(plain, given)


def _with_gap(plain: EventSequence, rng: np.random.Generator) -> tuple[EventSequence, int | None]:
    """(infill order with a random gap, bar after the gap); unchanged and None if there are too few
    bars, or if the gap would include the end."""
    bars = int(plain.bars.max()) + 1
    if bars < 4:
        return plain, None
    gap = int(rng.integers(1, min(MOST_GAP_BARS, bars - 2) + 1))
    first = int(rng.integers(1, bars - gap + 1))
    if (plain.rows[:, POSITION] == END).any() and first + gap == bars:
        return plain, None
    return infill_sequence(plain, first, first + gap), first + gap


def train_score(
    settings: ScoreTraining,
    train: ScoreCorpus,
    held: ScoreCorpus,
    folder: Path,
    start: Mapping[str, Tensor] | None = None,
) -> None:
    """Runs or resumes the training of the score model.

    Args:
        settings: of the training.
        train: training windows.
        held: held-out windows.
        folder: of the training state, logs and weights.
        start: weights to start from; None: random initialization.
    """
    run = Run(ScoreObjective(settings, train, held), settings.loop, folder)
    if not run.resume() and start is not None:
        run.start_from(start)
    run.run()
