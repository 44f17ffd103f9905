"""Settings of recipes as typed: parsed to their types, within ranges, never a traceback."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from melisma.data.score_shards import ScoreSettings
from melisma.recipes import sizes
from melisma.recipes.settings import changed
from melisma.train.initialization.memory import built
from melisma.train.score import ScoreTraining
from melisma.values.errors import MelismaError


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("score.model.layers", "1000000000", "is a whole number, 1 to 1,024"),
        ("score.model.width", "10000000000", "is a whole number, 1 to 16,777,216"),
        ("score.batch", "0", "is a whole number, 1 to"),
        ("score.batch", "-3", "is a whole number, 1 to"),
        ("score.loop.log_updates", "0", "is a whole number, 1 to"),
        ("score.loop.updates", "1" * 5_000, "does not fit|is a whole number"),
        ("score.loop.seed", str(2**60), "is a whole number, 0 to"),
        ("score.loop.learning_rate", "1e999", "is a finite number"),
        ("score.loop.learning_rate", "-1", "lies between"),
        ("score.loop.beta1", "1.5", "lies between"),
        ("score.dropout", "2", "lies between 0 and 1, not 2.0"),
        ("score.drop.words", "-0.5", "lies between 0 and 1"),
        ("score.piece_start_events", "0", "is a whole number, 1 to"),
        ("score.model.layers", "(" * 10_000, "does not fit"),
        ("score.model.layers", "\0", "does not fit"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, word: str, said: str) -> None:
    with pytest.raises(MelismaError, match=said):
        changed(sizes.score("toy"), {name: word}, "score")


def test_conditions_may_be_switched_off() -> None:
    name = "semantic_lm.model.conditions.source_levels"
    settings = changed(sizes.stage("semantic", "toy"), {name: "0"}, "semantic_lm")
    assert settings.model.conditions.source_levels == 0


def test_any_words_make_settings_or_a_sentence() -> None:
    rng = random.Random(0)
    trees: dict[str, Any] = {
        "score": sizes.score("toy"), "codec": sizes.codec("toy"), "text": sizes.text("toy"),
        "score_rows": ScoreSettings(),
    }  # fmt: skip
    words = (
        "0", "-1", "1", "7", "1e999", "nan", "None", "True", "'x'", "[]", "(1, 2)", "(1e999,)",
        "{}", "1_0", "0x10", "9" * 400, "1" * 4_301, "-0.0", "", " ", "\0", "é", "1+1j",
    )  # fmt: skip
    for _ in range(2_000):
        part = rng.choice(list(trees))
        names = [field.name for field in dataclasses.fields(trees[part])]
        name = f"{part}.{rng.choice(names)}"
        if rng.random() < 0.5:
            name += "." + rng.choice(("updates", "seed", "layers", "learning_rate", "none", ""))
        try:
            changed(trees[part], {name: rng.choice(words)}, part)
        except MelismaError as error:
            said = str(error)
            assert len(said) < 1_000 + 2 * len(name)


def test_a_network_beyond_memory_is_refused_before_anything_is_allocated() -> None:
    model = dataclasses.replace(ScoreTraining().model, width=1 << 20, heads=1 << 10, layers=1_000)

    def make() -> Any:
        from melisma.lm.score.model import ScoreModel

        return ScoreModel(model)

    with pytest.raises(MelismaError, match=r"needs [\d.]+ GB of memory, and .* are available"):
        built(make, "cpu")


def test_settings_of_no_network_are_refused() -> None:
    model = dataclasses.replace(ScoreTraining().model, heads=7, width=40)

    def make() -> Any:
        from melisma.lm.score.model import ScoreModel

        return ScoreModel(model)

    with pytest.raises(MelismaError):
        built(make, "cpu")
