"""Retrieval on embeddings made by hand."""

import numpy as np
import pytest
from studies.retrieval import instrument_areas, instrument_interval, recall_figure


def test_perfect_vectors_find_their_clip() -> None:
    figure = recall_figure(np.eye(40), np.eye(40), "command")
    assert figure.value == 1.0
    assert figure.chance == 0.25


def test_an_instrument_ranks_its_clips_first() -> None:
    played = [("flute",)] * 4 + [("tuba",)] * 4
    music = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 4)
    questions = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    names = ["flute", "tuba", "oboe"]
    assert instrument_areas(questions, names, music, played) == {"flute": 1.0, "tuba": 1.0}
    assert instrument_interval(questions, names, music, played).value == 1.0


def test_too_few_clips_are_an_error() -> None:
    with pytest.raises(ValueError, match="take more clips"):
        instrument_interval(np.eye(2), ["a", "b"], np.eye(2), [("a",), ("b",)])
