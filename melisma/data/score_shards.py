"""Score shards: notation as event rows in windows of whole bars, for training the score model.

Input: sources. Output: shards with one row for each version of a piece: as written, with randomly
chosen instruments, or arranged for a band. A row has the arrays `events` int16 [event, 5]
(`values/events.py`) and `windows` int32 [window, 4]: first event, end, bars of the piece before the
window, and bars from its first bar to the end of the piece. Every window starts with the parts that
play in it and has facts about its notes and captions.

Files without dynamics get them here, as before rendering, so that the score model learns metrical
accents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from melisma.analysis.labels.chords import chord_marks
from melisma.analysis.labels.frame_labels import frame_labels
from melisma.data.arrange.songbook import Songbook
from melisma.data.captions.writer import write_captions
from melisma.data.clips import GROOVE_WEIGHTS, tempo_limits
from melisma.data.corpus_settings import begin_corpus, sources_description
from melisma.data.facts import clip_facts
from melisma.data.render.expressive_performance import (
    PerformanceSettings,
    perform,
    sample_speed,
    shape_flat_tracks,
)
from melisma.data.render.orchestration import OrchestrationSettings, orchestrate
from melisma.data.sources.excerpts import correct_downbeats
from melisma.data.sources.pieces import Source, read_score
from melisma.data.workers import Advance, run_jobs
from melisma.files.shards import NumberedShards, Row, write_shard
from melisma.files.shards.lock import locked
from melisma.symbolic.events import encode_score, join_parts
from melisma.symbolic.performance import Performance
from melisma.values import Facts, Score
from melisma.values.errors import MelismaError
from melisma.values.events import (
    BAR,
    CHORD,
    MAX_BAR_TICKS,
    PART,
    PART_FIELD,
    POSITION,
    TICKS_PER_BEAT,
    event_ticks,
)
from melisma.values.tokens import FRAME_RATE_HZ

AS_WRITTEN = PerformanceSettings(orchestration=None, transpose=False, humanize=False, rubato=False)
"""Performs the notation without any variation."""
ROWS_PER_SHARD = 64
"""Numbers of a shard: some seconds of work (chosen), which an interrupted worker loses at most."""
MIN_NOTES = 8
"""Windows with fewer notes are dropped."""
MAX_WINDOW_SECONDS = 120.0
"""Longest window, unless a single bar is longer."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Which score rows are written."""

    seed: int = 0
    split: str = "train"
    """ "train", "held" or "judge"."""
    window_events: int = 448
    """Largest number of events of a window without its parts (a longer bar is its own window)."""
    most_windows: int = 12
    """Largest number of windows of a piece, chosen at random, so that long ones do not dominate."""
    recast_share: float = 0.7
    """Share of the pieces that get a second row with other instruments."""
    arranged: int = 4_000
    """Number of band arrangements, in the eight arranged styles."""
    captions: int = 2
    """Number of captions of each window."""


@dataclass(frozen=True, kw_only=True)
class _Version:
    """One version of a piece: as written, recast or arranged."""

    score: Score
    source: Source
    kind: str
    style: str | None
    lead: int | None
    """Index of the lead track; None if unknown."""


class ScoreRows:
    """Builds score rows by number; the same number gives the same row.

    Args:
        sources: All pieces.
        splits: Identity -> split.
        settings: Which rows to build.

    Raises:
        MelismaError: If no source belongs to the split.
    """

    def __init__(
        self, sources: Sequence[Source], splits: Mapping[str, str], settings: ScoreSettings
    ) -> None:
        self.settings = settings
        self._sources = [s for s in sources if splits[s.identity] == settings.split]
        if not self._sources:
            raise MelismaError(f'no source belongs to the split "{settings.split}"')
        self._songbook = Songbook(self._sources)
        self._arranged = settings.arranged if len(self._songbook) else 0

    def __len__(self) -> int:
        return 2 * len(self._sources) + self._arranged

    def key(self, index: int) -> str:
        """The key of row number `index`."""
        return f"{self.settings.split}-{self.settings.seed}-{index:07d}"

    def description(self) -> dict[str, Any]:
        """Everything that decides the rows, as JSON values."""
        return {**asdict(self.settings), "sources": sources_description(self._sources)}

    def row(self, index: int) -> Row | None:
        """Build row number `index`; None if it has no window with enough notes."""
        rng = np.random.default_rng((self.settings.seed, index))
        version = self._sample_version(index, rng)
        if version is None:
            return None
        spans: list[tuple[int, int, int, int]] = []
        events: list[np.ndarray] = []
        window_facts: list[dict[str, object]] = []
        offset = 0
        for window in score_windows(version.score, version.lead, self.settings, rng):
            facts = window.facts(version)
            captions = write_captions(facts, rng, self.settings.captions)
            events.append(window.events)
            spans.append((offset, offset + len(window.events), window.bars_done, window.bars_left))
            offset += len(window.events)
            window_facts.append({"facts": _known_facts(facts), "captions": list(captions)})
        if not events:
            return None
        source = version.source
        return Row(
            key=self.key(index),
            arrays={
                "events": np.concatenate(events).astype(np.int16),
                "windows": np.array(spans, dtype=np.int32),
            },
            facts={
                "identity": source.identity,
                "group": source.group,
                "source": source.source_repo,
                "licence": source.licence,
                "attribution": source.attribution,
                "split": self.settings.split,
                "kind": version.kind,
                "windows": window_facts,
            },
        )

    def _sample_version(self, index: int, rng: np.random.Generator) -> _Version | None:
        pieces = len(self._sources)
        if index >= 2 * pieces:
            arranged = self._songbook.sample(rng)
            if arranged is None:
                return None
            return _Version(
                score=arranged.score,
                source=arranged.source,
                kind="arranged",
                style=arranged.style,
                lead=0,
            )
        source = self._sources[index % pieces]
        groove = source.corpus in GROOVE_WEIGHTS
        recast = index >= pieces
        if recast and (groove or rng.random() >= self.settings.recast_share):
            return None
        try:
            score = correct_downbeats(read_score(source))
        except MelismaError:
            return None
        lead = None
        if recast:
            score, lead = orchestrate(score, rng, OrchestrationSettings(keep_solo=0.1))
        score = _at_speed(score, sample_speed(score, rng, *tempo_limits(source, score)))
        merged = join_parts(shape_flat_tracks(score, rng))
        return _Version(
            score=merged,
            source=source,
            kind="recast" if recast else "real",
            style=None,
            lead=lead if len(merged.tracks) == len(score.tracks) else None,
        )


def _at_speed(score: Score, speed: float) -> Score:
    return replace(score, tempo=replace(score.tempo, bpm=score.tempo.bpm * speed))


def _known_facts(facts: Facts) -> dict[str, object]:
    return {name: value for name, value in vars(facts).items() if value not in (None, ())}


@dataclass(frozen=True, kw_only=True)
class _Window:
    """Consecutive whole bars as events, with the parts that play in them."""

    events: np.ndarray
    performance: Performance
    start_seconds: float
    seconds: float
    bars_done: int
    bars_left: int

    def facts(self, version: _Version) -> Facts:
        """Facts about the notes of the window."""
        frames = max(round(self.seconds * FRAME_RATE_HZ), 1)
        labels = frame_labels(self.performance, self.start_seconds, frames)
        source = None if version.kind == "arranged" else version.source
        return clip_facts(
            self.performance, self.start_seconds, self.seconds, labels, source, version.style
        )


def score_windows(
    score: Score, lead: int | None, settings: ScoreSettings, rng: np.random.Generator
) -> Iterator[_Window]:
    """Yield up to `most_windows` random windows of a score in order, with chord events."""
    score = replace(score, chords=chord_marks(score))
    events = encode_score(score)
    performance = perform(score, rng, replace(AS_WRITTEN, lead_track=lead))
    part_events = events[events[:, POSITION] == PART]
    bar_events = events[len(part_events) :]
    ticks, _ = event_ticks(bar_events)
    firsts = np.flatnonzero(bar_events[:, POSITION] == BAR)
    total = len(firsts)
    edges = np.append(firsts, len(bar_events))
    starts = np.append(ticks[firsts], ticks[-1])
    seconds = score.tempo.seconds(starts / TICKS_PER_BEAT)
    spans = list(_spans(edges, seconds, settings.window_events))
    if len(spans) > settings.most_windows:
        chosen = rng.choice(len(spans), settings.most_windows, replace=False)
        spans = [spans[int(i)] for i in sorted(chosen)]
    for first, last in spans:
        part = bar_events[edges[first] : edges[last]]
        notes = (part[:, POSITION] < MAX_BAR_TICKS) & (part[:, PART_FIELD] != CHORD)
        if notes.sum() < MIN_NOTES:
            continue
        yield _Window(
            events=select_playing_parts(part_events, part),
            performance=performance,
            start_seconds=float(seconds[first]),
            seconds=float(max(seconds[last] - seconds[first], 0.5)),
            bars_done=first,
            bars_left=total - first,
        )


def _spans(edges: np.ndarray, seconds: np.ndarray, max_events: int) -> Iterator[tuple[int, int]]:
    """Yield (first bar, bar after the last) of consecutive windows that cover a piece."""
    bars, first = len(edges) - 1, 0
    while first < bars:
        last = first + 1
        while (
            last < bars
            and edges[last + 1] - edges[first] <= max_events
            and seconds[last + 1] - seconds[first] <= MAX_WINDOW_SECONDS
        ):
            last += 1
        yield first, last
        first = last


def select_playing_parts(part_events: np.ndarray, bar_events: np.ndarray) -> np.ndarray:
    """Drop the parts without notes in a window and renumber the others.

    Args:
        part_events: Part events of the score, int [part, 5].
        bar_events: Events of the window, int [event, 5].

    Returns:
        Remaining part events and then the events of the window, int [event, 5].
    """
    notes = (bar_events[:, POSITION] < MAX_BAR_TICKS) & (bar_events[:, PART_FIELD] != CHORD)
    playing = np.unique(bar_events[notes, PART_FIELD])
    new_index = np.full(CHORD + 2, -1)
    new_index[playing] = np.arange(len(playing))
    new_index[CHORD], new_index[CHORD + 1] = CHORD, CHORD + 1
    part_events, bar_events = (
        part_events[np.isin(part_events[:, PART_FIELD], playing)].copy(),
        bar_events.copy(),
    )
    part_events[:, PART_FIELD] = new_index[part_events[:, PART_FIELD]]
    bar_events[:, PART_FIELD] = new_index[bar_events[:, PART_FIELD]]
    return np.concatenate([part_events, bar_events])


def write_score_shards(
    folder: Path,
    score_rows: ScoreRows,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write all rows as shards; shards that exist already are not written again.

    The same settings write the same bytes with any number of workers, however often they were
    interrupted. The rows are in random order, so that the shards written so far are a
    representative sample.

    Args:
        folder: Folder of the shards; created if missing.
        score_rows: Builds the rows.
        workers: Number of processes.
        on_progress: Called about once a second, and at the end, with the number of rows done.

    Raises:
        MelismaError: Another process writes into the folder, or it was begun with other settings.
        ChildProcessError: If a worker process failed; other errors as `workers.run_jobs`.
    """
    with locked(folder) as lock:
        begin_corpus(folder, "score shards", score_rows.description())
        shards = NumberedShards(folder, "scores")
        order = np.random.default_rng(score_rows.settings.seed).permutation(len(score_rows))
        blocks = [
            order[start : start + ROWS_PER_SHARD].tolist()
            for start in range(0, len(order), ROWS_PER_SHARD)
        ]
        missing = shards.missing(len(blocks))
        # Versions up to 0.5 wrote shards under other names, and one row after another.
        job = _ShardOfScoresJob(
            score_rows, [shards.path(n) for n in missing], [blocks[n] for n in missing],
            frozenset(shards.other_keys()),
        )  # fmt: skip
        done = len(order) - sum(len(blocks[n]) for n in missing)

        def report(completed: int) -> None:
            if on_progress is not None:
                on_progress(done + completed)

        run_jobs(
            job, len(missing), workers, report, lambda number: shards.add(missing[number]), lock
        )
        report(len(order) - done)


@dataclass(frozen=True)
class _ShardOfScoresJob:
    """Builds and writes shards of scores; runs in a worker."""

    score_rows: ScoreRows
    files: list[Path]
    blocks: list[list[int]]
    finished: frozenset[str]

    def __call__(self, number: int, advance: Advance) -> None:
        rows: list[Row] = []
        for index in self.blocks[number]:
            finished = self.score_rows.key(index) in self.finished
            row = None if finished else self.score_rows.row(index)
            if row is not None:
                rows.append(row)
            advance(1)
        write_shard(self.files[number], rows)
