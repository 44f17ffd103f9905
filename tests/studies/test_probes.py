"""Probes read what is in the tokens and nothing else."""

import numpy as np
import pytest
from studies.probes import ProbeClip, one_hot_rows, probe

from melisma.values import TokenGrid
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError

FRAMES = 200


def clip(seed: int, informative: bool) -> ProbeClip:
    """One chord per frame; informative tokens encode it, others are noise."""
    rng = np.random.default_rng(seed)
    chord = np.repeat(rng.integers(1, 9, FRAMES // 10), 10)
    tokens = chord if informative else rng.integers(0, 16, FRAMES)
    pitch_class = np.zeros((FRAMES, 12), dtype=np.uint8)
    pitch_class[np.arange(FRAMES), chord] = 1
    family = np.zeros((FRAMES, len(FAMILIES)), dtype=np.uint8)
    family[:, seed % 2] = 1
    return ProbeClip(
        grid=TokenGrid(tokens=tokens[None], vocabulary=16, frame_rate_hz=25.0, fingerprint="a"),
        pitch_class=pitch_class,
        chord=chord,
        family=family,
    )


def test_informative_tokens_are_read_and_noise_is_not() -> None:
    found = probe([clip(i, True) for i in range(6)], [clip(i, True) for i in range(10, 14)], 1.0)
    noise = probe([clip(i, False) for i in range(6)], [clip(i, False) for i in range(10, 14)], 1.0)
    assert found.chord.mean() > 0.95
    assert found.pitch_class_f1.mean() > 0.95
    assert noise.chord.mean() < 0.4
    assert noise.pitch_class_f1.mean() < 0.5
    assert found.family_truth.sum(axis=1).tolist() == [1, 1, 1, 1]


def test_a_row_holds_a_constant_and_one_token_per_level_and_neighbour() -> None:
    grid = TokenGrid(
        tokens=np.array([[0, 1, 2], [3, 3, 3]]), vocabulary=4, frame_rate_hz=25.0, fingerprint="a"
    )
    rows = one_hot_rows(grid).toarray()
    assert rows.shape == (3, 1 + 3 * 2 * 4)
    assert (rows.sum(axis=1) == 7).all()


def test_tokens_of_two_tokenizers_are_refused() -> None:
    other = clip(1, True)
    strange = ProbeClip(
        grid=TokenGrid(
            tokens=other.grid.tokens, vocabulary=16, frame_rate_hz=25.0, fingerprint="b"
        ),
        pitch_class=other.pitch_class,
        chord=other.chord,
        family=other.family,
    )
    with pytest.raises(MelismaError, match="different tokenizers"):
        probe([clip(0, True), clip(2, True)], [strange])
