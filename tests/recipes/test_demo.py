"""The demo's files: a corpus that has every split, a tune that is detected, prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from melisma.data.sources.pieces import read_sources
from melisma.data.sources.splits import assign_splits
from melisma.evaluate.prompts import read_prompts
from melisma.files import read_audio
from melisma.generation.loading import load_scores
from melisma.melody.tune import extract_tune
from melisma.recipes.demo import FEWEST_PIECES, HUM, check_demo, write_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done: list[tuple[int, int]] = []
    composer = load_scores("default")
    written = write_demo(
        folder, composer, pieces=FEWEST_PIECES, progress=lambda *pair: done.append(pair)
    )
    assert done == [(number + 1, FEWEST_PIECES) for number in range(FEWEST_PIECES)]
    assert all(path.exists() for path in written)
    return folder


def test_the_corpus_has_pieces_in_every_split(folder: Path) -> None:
    sources = read_sources(folder / "corpora")
    assert len(sources) == FEWEST_PIECES
    # Lengths are measured where the metadata has none.
    assert all(source.seconds > 9 and source.notes > 20 for source in sources)
    splits = list(assign_splits(sources).values())
    assert {name: splits.count(name) >= 2 for name in ("train", "held", "judge")} == dict.fromkeys(
        ("train", "held", "judge"), True
    )


def test_the_tune_is_detected_note_by_note(folder: Path) -> None:
    tune = extract_tune(read_audio(folder / "hum.wav"))
    pitches = [round(note.pitch + 12) for note in tune.notes]
    assert pitches == [pitch for pitch, _ in HUM]


def test_the_list_is_read(folder: Path) -> None:
    assert len(read_prompts(folder / "prompts.txt")) == 2


def test_nothing_is_replaced(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="corpora"):
        check_demo(folder)
    check_demo(tmp_path / "new")
    (tmp_path / "prompts.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"prompts\.txt"):
        check_demo(tmp_path)
    with pytest.raises(NotADirectoryError):
        check_demo(tmp_path / "prompts.txt")
