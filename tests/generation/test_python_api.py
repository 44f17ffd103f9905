"""The Python API: one call for everything that the command line does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_model import write_model

import melisma
from melisma.analysis.receipt import Receipt
from melisma.files import read_provenance
from melisma.generation.requests.facade import MelismaPipeline
from melisma.values.errors import MelismaError


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> MelismaPipeline:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return melisma.load(folder)


def test_a_prompt_gives_a_result_and_a_list_gives_a_list(pipeline: MelismaPipeline) -> None:
    one = pipeline.generate("a waltz", duration=1, seed=7, best_of=1)
    first, second = pipeline.generate(["a waltz", "a march"], duration=1, seed=7, best_of=1)
    assert np.array_equal(one.piece.waveform.samples, first.piece.waveform.samples)
    assert (first.piece.seed, second.piece.seed) == (7, 8)
    assert abs(one.waveform.seconds - 1.0) < 1e-6


def test_save_writes_the_sound_with_its_provenance(
    pipeline: MelismaPipeline, tmp_path: Path
) -> None:
    result = pipeline.generate("a waltz", duration=1, seed=7, best_of=1, key="bb minor")
    row = result.save(tmp_path / "waltz.flac", plot=tmp_path / "waltz.png")
    assert (row["path"], row["seed"]) == (str(tmp_path / "waltz.flac"), 7)
    assert read_provenance(tmp_path / "waltz.flac") == result.provenance
    assert (tmp_path / "waltz.png").stat().st_size > 1000
    assert result.piece.prompt.tonality == "Bb minor"


def test_a_receipt_is_measured_of_the_mastered_sound(pipeline: MelismaPipeline) -> None:
    result = pipeline.generate("a waltz", duration=2, seed=7, best_of=1, bpm=90)
    lines = Receipt.of_json(result.receipt).lines()
    assert any("90" in line for line in lines)


def test_sampling_parameters_that_a_model_lacks_are_refused(pipeline: MelismaPipeline) -> None:
    with pytest.raises(MelismaError, match="--top-p"):
        pipeline.generate("a", duration=1, sampling=melisma.SamplingParams(top_p=0.5))


def test_a_beginning_is_continued(pipeline: MelismaPipeline) -> None:
    tone = 0.1 * np.sin(np.arange(24_000) / 10, dtype=np.float32)
    beginning = melisma.Waveform(samples=tone[None], rate_hz=24_000)
    result = pipeline.generate("a", duration=1, best_of=1, continue_from=beginning, keep_seconds=1)
    assert result.waveform.seconds == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("model", ["nothing-here", "", "./nothing/here"])
def test_an_unknown_model_is_refused_at_once(model: str) -> None:
    with pytest.raises(MelismaError, match="model"):
        melisma.load(model)


def test_tokens_come_back_as_sound(pipeline: MelismaPipeline) -> None:
    tone = 0.1 * np.sin(np.arange(48_000) / 10, dtype=np.float32)
    grid = pipeline.encode(melisma.Waveform(samples=tone[None], rate_hz=48_000))
    assert pipeline.decode(grid).seconds == pytest.approx(1.0, abs=0.05)


def test_public_names_are_those_of_the_package() -> None:
    assert len(melisma.__all__) <= 12
    for name in melisma.__all__:
        assert getattr(melisma, name) is not None
    with pytest.raises(AttributeError):
        _ = melisma.nothing
