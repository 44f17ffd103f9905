"""Scores sampled by a small untrained model follow their plans and the grammar."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from melisma.engine.sampling import StageSampling
from melisma.engine.score_cpu import ScoreEngine
from melisma.engine.score_generate import sample_scores
from melisma.lm.score.conditioning import ScoreConditions
from melisma.lm.score.model import ScoreModel, ScoreModelSettings
from melisma.lm.score.plan import Choice, ScorePlan
from melisma.lm.score.rows import batch_of, infill_sequence, melody_sequence, plain_sequence
from melisma.symbolic.events import decode_score, encode_score
from melisma.values import Notes, Score, TempoMap, Track
from melisma.values.errors import MelismaError
from melisma.values.events import (
    BAR,
    BAR_METRES,
    DRUM_PROGRAM,
    END,
    PART,
    PART_FIELD,
    PITCH,
    POSITION,
)

SETTINGS = ScoreModelSettings(width=40, layers=2, heads=2, window_events=160)


@pytest.fixture(scope="module")
def model() -> ScoreModel:
    torch.manual_seed(0)
    return ScoreModel(SETTINGS).eval()


def sample(model: ScoreModel, *plans: ScorePlan, seed: int = 0, **how: float) -> list[np.ndarray]:
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(plans))]
    conditions = ScoreConditions.absent(len(plans))
    return sample_scores(ScoreEngine(model), conditions, plans, StageSampling(**how), generators)  # type: ignore[arg-type]


def a_score(bars: int = 6) -> Score:
    start = np.arange(0.0, 4.0 * bars, 0.5)
    low, high = start[::2], start
    tracks = []
    for program, beats, pitch in ((40, high, 72), (0, low, 48)):
        notes = Notes(
            start_beats=beats, duration_beats=np.full(len(beats), 0.5),
            pitch=pitch + np.arange(len(beats)) % 5, velocity=np.full(len(beats), 82),
        )  # fmt: skip
        tracks.append(Track(notes=notes, program=program, is_drum=False))
    return Score(tracks=tuple(tracks), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 100.0)))


def body(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.int64)
    return rows[(rows[:, POSITION] != PART) & (rows[:, POSITION] != END)]


def test_given_parts_metre_tempo_and_length_hold(model: ScoreModel) -> None:
    plan = ScorePlan(
        bars=5, programs=(40, DRUM_PROGRAM), metres=(BAR_METRES.index((3, 4)),), tempi=(70,)
    )
    (rows,) = sample(model, plan)
    score = decode_score(rows)
    assert (rows[:, POSITION] == BAR).sum() == 5
    assert [(m.numerator, m.denominator) for m in score.metres] == [(3, 4)]
    assert len(score.tempo.bpm) == 1
    assert {(t.program, t.is_drum) for t in score.tracks} <= {(40, False), (0, True)}
    assert score.end_beats <= 5 * 3.0


def test_times_never_run_back_and_no_note_stands_twice(model: ScoreModel) -> None:
    for rows in sample(model, ScorePlan(bars=4), ScorePlan(bars=3, programs=(24, 33))):
        inside = body(rows)
        for before, after in itertools.pairwise(inside):
            if BAR not in (before[POSITION], after[POSITION]):
                one, other = before[: PITCH + 1].copy(), after[: PITCH + 1].copy()
                for row in (one, other):  # chords stand first
                    row[PART_FIELD] = -1 if row[PART_FIELD] == 24 else row[PART_FIELD]
                assert tuple(other) > tuple(one)


def test_parts_are_chosen_from_the_choices(model: ScoreModel) -> None:
    choices = (Choice(programs=frozenset((0,)), most=2), Choice(programs=frozenset((40, 41))))
    for seed in range(6):
        (rows,) = sample(model, ScorePlan(bars=1, choices=choices), seed=seed)
        parts = (rows[rows[:, POSITION] == PART][:, PITCH] - 325).tolist()
        assert 1 <= parts.count(0) <= 2
        assert parts.count(40) + parts.count(41) == 1
        assert len(parts) <= 3


def test_a_piece_does_not_depend_on_its_neighbours(model: ScoreModel) -> None:
    plan = ScorePlan(bars=3, programs=(0,), tempi=(60,))
    (alone,) = sample(model, plan, guidance=2.0)
    beside = sample(model, plan, ScorePlan(bars=6, programs=(24,)), guidance=2.0)
    assert np.array_equal(alone, beside[0])


def test_long_pieces_are_sampled_in_windows(model: ScoreModel) -> None:
    (rows,) = sample(model, ScorePlan(bars=40, programs=(0, 33), metres=(3,)))
    assert (rows[:, POSITION] == BAR).sum() == 40
    assert len(rows) > SETTINGS.window_events


def test_bars_around_a_gap_stay_and_the_gap_is_sampled(model: ScoreModel) -> None:
    rows = body(encode_score(a_score()))
    edges = np.append(np.flatnonzero(rows[:, POSITION] == BAR), len(rows))
    before, later = rows[: edges[2]], rows[edges[4] :]
    plan = ScorePlan(bars=2, programs=(40, 0), metres=(3,), tempi=(69,), before=before, later=later)
    (out,) = sample(model, plan)
    inside = body(out)
    assert np.array_equal(inside[: len(before)], before)
    assert np.array_equal(inside[len(inside) - len(later) :], later)
    assert (inside[:, POSITION] == BAR).sum() == 6


def test_given_notes_stay_and_silent_parts_add_nothing(model: ScoreModel) -> None:
    rows = body(encode_score(a_score(4)))
    edges = np.append(np.flatnonzero(rows[:, POSITION] == BAR), len(rows))
    bars = [rows[a:b] for a, b in itertools.pairwise(edges)]
    tune = tuple(bar[bar[:, PART_FIELD] == 0] for bar in bars)
    plan = ScorePlan(
        bars=4,
        programs=(40, 33),
        metres=(3,),
        tempi=(69,),
        given=tune,
        silent_parts=frozenset((0,)),
    )
    (out,) = sample(model, plan)
    score = decode_score(out)
    given = next(track for track in score.tracks if track.program == 40).notes
    assert np.array_equal(given.pitch, a_score(4).tracks[0].notes.pitch)
    assert np.allclose(given.start_beats, a_score(4).tracks[0].notes.start_beats)


def test_greedy_and_narrow_sampling_repeats(model: ScoreModel) -> None:
    plan = ScorePlan(bars=2, programs=(0,))
    greedy = [sample(model, plan, seed=s, temperature=0.0)[0] for s in (1, 2)]
    assert np.array_equal(greedy[0], greedy[1])
    single = [sample(model, plan, seed=s, top_k=1)[0] for s in (1, 2)]
    assert np.array_equal(single[0], single[1])
    tiny = [sample(model, plan, seed=s, top_p=1e-6)[0] for s in (1, 2)]
    assert np.array_equal(tiny[0], tiny[1])


def test_decoding_agrees_with_training(model: ScoreModel) -> None:
    """Steps with a KV cache equal one pass over the whole sequence."""
    rows = encode_score(a_score(3)).astype(np.int64)
    batch = batch_of([plain_sequence(rows)], [3], [0])
    conditions = ScoreConditions.absent(1)
    with torch.no_grad():
        whole = model(batch, conditions)
        decoding = ScoreEngine(model).open(conditions)
        for position in range(batch.rows.shape[1]):
            event = type(batch)(
                **{k: v[:, position : position + 1] for k, v in vars(batch).items()}
            )
            step = decoding.step(event, [0], position)
            assert torch.allclose(step, whole[:, position], atol=1e-4)


def test_melodies_come_one_bar_ahead_and_gaps_last() -> None:
    rows = encode_score(a_score(5)).astype(np.int64)
    plain = plain_sequence(rows)
    tune = (plain.rows[:, PART_FIELD] == 0) & (plain.rows[:, POSITION] < BAR)
    melody = melody_sequence(plain, tune)
    for bar in range(1, 5):
        bar_line = np.flatnonzero((melody.rows[:, POSITION] == BAR) & (melody.bars == bar - 1))[0]
        ahead = np.flatnonzero((melody.roles == 1) & (melody.bars == bar))
        assert (ahead < bar_line).all()
    gap = infill_sequence(plain, 2, 4)
    assert gap.rows[-1, POSITION] == END
    assert gap.bars[gap.roles == 2].min() == 4
    assert set(gap.bars[-5:].tolist()) == {3}
    first_later = np.flatnonzero(gap.roles == 2)[0]
    assert first_later == (plain.rows[:, POSITION] == PART).sum()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bars": 0},
        {"bars": 1, "programs": (0,) * 25},
        {"bars": 1, "given": (np.zeros((0, 5), int),)},
        {"bars": 1, "metres": (3,), "later": np.zeros((1, 5), int)},
    ],
)
def test_contradictory_plans_are_refused(wrong: dict) -> None:
    with pytest.raises(MelismaError, match=r"bar|part|metre"):
        ScorePlan(**wrong)


def test_a_model_that_only_rests_still_writes_music() -> None:
    torch.manual_seed(1)
    lazy = ScoreModel(SETTINGS).eval()
    with torch.no_grad():
        lazy.heads[0].bias[BAR] = 30.0  # pyright: ignore[reportIndexIssue, reportArgumentType]
        lazy.heads[0].bias[END] = 30.0  # pyright: ignore[reportIndexIssue, reportArgumentType]
    for bars in (1, 6):
        (rows,) = sample(lazy, ScorePlan(bars=bars, programs=(0,)))
        notes = (rows[:, POSITION] < BAR) & (rows[:, PART_FIELD] < 24)
        bar = np.cumsum(rows[:, POSITION] == BAR)[notes]
        assert len(bar)
        assert np.diff([0, *np.unique(bar), bars + 1]).max() <= 2


def test_parts_start_no_more_notes_together_than_their_polyphony(model: ScoreModel) -> None:
    plan = ScorePlan(bars=6, programs=(73, 0), polyphony={73: 1, 0: 3}, pitch_ranges={73: (60, 90)})
    rows = np.concatenate([body(one) for one in sample(model, plan, plan, temperature=2.0)])
    notes = rows[(rows[:, POSITION] < BAR) & (rows[:, PART_FIELD] < 24)]
    bar = np.cumsum(rows[:, POSITION] == BAR)[
        (rows[:, POSITION] < BAR) & (rows[:, PART_FIELD] < 24)
    ]
    for part, most in ((0, 1), (1, 3)):
        mine = notes[:, PART_FIELD] == part
        places = np.stack([bar[mine], notes[mine, POSITION]])
        assert np.unique(places, axis=1, return_counts=True)[1].max() <= most
    flute = notes[notes[:, PART_FIELD] == 0, PITCH]
    assert ((flute >= 60) & (flute <= 90)).all()
