"""The corpus of the score model: notation as event rows, in windows of whole bars.

Enters: sources. Leaves: token shards, a row for each way in which a piece was told: as written,
with its instruments drawn anew, or arranged for a band. A row has the arrays `events` int16
[event, 5] (`values/events.py`) and `windows` int32 [window, 4]: first event, end, bars of the piece
before the window and bars from its beginning to the piece's end. Every window brings the parts that
play in it, the facts about its notes, and captions.

Flat files get dynamics here, as they do before they are rendered: a model of notes should know that
a downbeat is heavier.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from melisma.analysis.labels.chords import chord_marks
from melisma.analysis.labels.frame_labels import frame_labels
from melisma.data.arrange.songbook import Songbook
from melisma.data.captions.writer import write_captions
from melisma.data.clips import GROOVE_WEIGHTS, tempo_limits
from melisma.data.facts import clip_facts
from melisma.data.render.expressive_performance import (
    Playing,
    draw_speed,
    perform,
    shape_flat_tracks,
)
from melisma.data.render.orchestration import Casting, orchestrate
from melisma.data.sources.excerpts import settle_downbeat
from melisma.data.sources.pieces import Source, read_score
from melisma.files.shards import Row, ShardWriter
from melisma.symbolic.events import encode_score, join_parts
from melisma.symbolic.performance import Performance
from melisma.values import Facts, Score
from melisma.values.events import (
    BAR,
    CHORD,
    LONGEST_BAR_TICKS,
    PART,
    PART_FIELD,
    POSITION,
    TICKS_PER_BEAT,
    row_ticks,
)
from melisma.values.tokens import FRAME_RATE_HZ

AS_WRITTEN = Playing(casting=None, transpose=False, human=False, rubato=False)
"""Nothing is added to the notation."""
FEWEST_NOTES = 8
"""A window with fewer notes is no music."""
LONGEST_WINDOW_SECONDS = 120.0
"""A window ends before it lasts longer."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What is told of every piece."""

    seed: int = 0
    split: str = "train"
    """ "train", "held" or "judge"."""
    window_events: int = 448
    """Most events of a window beside its parts (a bar that has more stands alone)."""
    most_windows: int = 12
    """Windows of one piece, spread over it: long pieces must not outweigh all others."""
    recast_share: float = 0.7
    """Share of the pieces that are told a second time, with other instruments."""
    arranged: int = 4_000
    """Arrangements for bands, in the eight arranged styles."""
    captions: int = 2
    """Wordings of a window."""


@dataclass(frozen=True, kw_only=True)
class _Told:
    """One way of telling a piece."""

    score: Score
    source: Source
    kind: str
    style: str | None
    lead: int | None
    """Number of the leading track, where it is known."""


class ScoreRows:
    """Row number `index`, always the same one."""

    def __init__(
        self, sources: Sequence[Source], splits: Mapping[str, str], settings: ScoreSettings
    ) -> None:
        self.settings = settings
        self._sources = [s for s in sources if splits[s.identity] == settings.split]
        if not self._sources:
            raise ValueError(f'no source belongs to the split "{settings.split}"')
        self._songbook = Songbook(self._sources)
        self._arranged = settings.arranged if len(self._songbook) else 0

    def __len__(self) -> int:
        return 2 * len(self._sources) + self._arranged

    def row(self, index: int) -> Row | None:
        """Row number `index`; None where there is no music in it."""
        rng = np.random.default_rng((self.settings.seed, index))
        told = self._tell(index, rng)
        if told is None:
            return None
        spans: list[tuple[int, int, int, int]] = []
        events: list[np.ndarray] = []
        words: list[dict[str, object]] = []
        at = 0
        for window in windows_of(told.score, told.lead, self.settings, rng):
            facts = window.facts(told)
            captions = write_captions(facts, rng, self.settings.captions)
            events.append(window.events)
            spans.append((at, at + len(window.events), window.bars_done, window.bars_left))
            at += len(window.events)
            words.append({"facts": _plain(facts), "captions": list(captions)})
        if not events:
            return None
        source = told.source
        return Row(
            key=f"{self.settings.split}-{self.settings.seed}-{index:07d}",
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
                "kind": told.kind,
                "windows": words,
            },
        )

    def _tell(self, index: int, rng: np.random.Generator) -> _Told | None:
        pieces = len(self._sources)
        if index >= 2 * pieces:
            arranged = self._songbook.draw(rng)
            if arranged is None:
                return None
            return _Told(
                score=arranged.score,
                source=arranged.source,
                kind="arranged",
                style=arranged.style,
                lead=0,
            )
        source = self._sources[index % pieces]
        groove = source.corpus in GROOVE_WEIGHTS
        again = index >= pieces
        if again and (groove or rng.random() >= self.settings.recast_share):
            return None
        try:
            score = settle_downbeat(read_score(source))
        except ValueError:
            return None
        lead = None
        if again:
            score, lead = orchestrate(score, rng, Casting(keep_solo=0.1))
        score = _at_speed(score, draw_speed(score, rng, *tempo_limits(source, score)))
        joined = join_parts(shape_flat_tracks(score, rng))
        return _Told(
            score=joined,
            source=source,
            kind="recast" if again else "real",
            style=None,
            lead=lead if len(joined.tracks) == len(score.tracks) else None,
        )


def _at_speed(score: Score, speed: float) -> Score:
    return replace(score, tempo=replace(score.tempo, bpm=score.tempo.bpm * speed))


def _plain(facts: Facts) -> dict[str, object]:
    return {name: value for name, value in vars(facts).items() if value not in (None, ())}


@dataclass(frozen=True, kw_only=True)
class _Window:
    """A stretch of whole bars as events, with the parts that play in it."""

    events: np.ndarray
    performance: Performance
    start_seconds: float
    seconds: float
    bars_done: int
    bars_left: int

    def facts(self, told: _Told) -> Facts:
        """What is true of its notes."""
        frames = max(round(self.seconds * FRAME_RATE_HZ), 1)
        labels = frame_labels(self.performance, self.start_seconds, frames)
        work = None if told.kind == "arranged" else told.source
        return clip_facts(
            self.performance, self.start_seconds, self.seconds, labels, work, told.style
        )


def windows_of(
    score: Score, lead: int | None, settings: ScoreSettings, rng: np.random.Generator
) -> Iterator[_Window]:
    """Windows of a score, at most `most_windows`, with chords told."""
    score = replace(score, chords=chord_marks(score))
    events = encode_score(score)
    performance = perform(score, rng, replace(AS_WRITTEN, lead_track=lead))
    head = events[events[:, POSITION] == PART]
    body = events[len(head) :]
    ticks, _ = row_ticks(body)
    firsts = np.flatnonzero(body[:, POSITION] == BAR)
    total = len(firsts)
    edges = np.append(firsts, len(body))
    starts = np.append(ticks[firsts], ticks[-1])
    seconds = score.tempo.seconds(starts / TICKS_PER_BEAT)
    spans = list(_spans(edges, seconds, settings.window_events))
    if len(spans) > settings.most_windows:
        chosen = rng.choice(len(spans), settings.most_windows, replace=False)
        spans = [spans[int(i)] for i in sorted(chosen)]
    for first, last in spans:
        part = body[edges[first] : edges[last]]
        notes = (part[:, POSITION] < LONGEST_BAR_TICKS) & (part[:, PART_FIELD] != CHORD)
        if notes.sum() < FEWEST_NOTES:
            continue
        yield _Window(
            events=only_playing(head, part),
            performance=performance,
            start_seconds=float(seconds[first]),
            seconds=float(max(seconds[last] - seconds[first], 0.5)),
            bars_done=first,
            bars_left=total - first,
        )


def _spans(edges: np.ndarray, seconds: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """(first bar, bar after the last) of windows that tile a piece."""
    bars, first = len(edges) - 1, 0
    while first < bars:
        last = first + 1
        while (
            last < bars
            and edges[last + 1] - edges[first] <= most
            and seconds[last + 1] - seconds[first] <= LONGEST_WINDOW_SECONDS
        ):
            last += 1
        yield first, last
        first = last


def only_playing(head: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The parts that play in the body, numbered anew, and the body after them."""
    notes = (body[:, POSITION] < LONGEST_BAR_TICKS) & (body[:, PART_FIELD] != CHORD)
    playing = np.unique(body[notes, PART_FIELD])
    number = np.full(CHORD + 2, -1)
    number[playing] = np.arange(len(playing))
    number[CHORD], number[CHORD + 1] = CHORD, CHORD + 1
    head, body = head[np.isin(head[:, PART_FIELD], playing)].copy(), body.copy()
    head[:, PART_FIELD] = number[head[:, PART_FIELD]]
    body[:, PART_FIELD] = number[body[:, PART_FIELD]]
    return np.concatenate([head, body])


def write_scores(
    folder: Path,
    maker: ScoreRows,
    workers: int = 1,
    tell: Callable[[int, int], None] | None = None,
) -> None:
    """Writes all rows as shards; rows already in whole shards are kept. `tell` hears (rows done,
    rows in all). The rows are the same for any number of workers."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    counter = context.Value("q", 0)
    jobs = [
        context.Process(target=_work, args=(folder, maker, w, workers, counter))
        for w in range(workers)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        while job.is_alive():
            job.join(1.0)
            if tell is not None:
                tell(int(counter.value), len(maker))
    if any(job.exitcode for job in jobs):
        raise RuntimeError("a worker ended early; its message is above: run the command again")


def _work(folder: Path, maker: ScoreRows, worker: int, workers: int, counter: object) -> None:
    with ShardWriter(folder, rows_per_shard=512, prefix=f"scores-{worker}") as writer:
        # In a shuffled order, so that the shards there are make a fair corpus at any time.
        order = np.random.default_rng(maker.settings.seed).permutation(len(maker))
        for index in order[worker::workers].tolist():
            key = f"{maker.settings.split}-{maker.settings.seed}-{index:07d}"
            row = None if key in writer.finished else maker.row(index)
            if row is not None:
                writer.write(row)
            with counter.get_lock():  # type: ignore[attr-defined] # a Synchronized has no public type
                counter.value += 1  # type: ignore[attr-defined]
