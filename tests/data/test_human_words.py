"""Human descriptions get the attributes that their keywords name."""

from pathlib import Path

import numpy as np
import pytest

from melisma.data.captions.human_words import human_sentences
from melisma.data.captions.keyword_facts import keyword_facts
from melisma.values.errors import MelismaError

MUSICCAPS = (
    "ytid,aspect_list,caption\n"
    "x,\"['low quality', 'slow tempo', 'saxophone', 'jazz']\",\"A saxophone plays mellow jazz. "
    'This song may be playing in a coffee shop."\n'
)


def read(folder: Path) -> dict[str, list[str]]:
    shapes: dict[str, list[str]] = {}
    for sentence in human_sentences(folder, np.random.default_rng(0)):
        shapes.setdefault(sentence.shape, []).append(sentence.text)
    return shapes


def test_a_description_comes_in_four_shapes(tmp_path: Path) -> None:
    (tmp_path / "musiccaps.csv").write_text(MUSICCAPS, encoding="utf-8")
    shapes = read(tmp_path)
    assert shapes["tags"] == ["slow tempo, saxophone, jazz"]
    assert shapes["scene"] == ["This song may be playing in a coffee shop."]
    assert shapes["place"] == ["in a coffee shop"]
    assert len(shapes["whole"]) == 1


def test_the_scene_carries_what_the_whole_names(tmp_path: Path) -> None:
    (tmp_path / "musiccaps.csv").write_text(MUSICCAPS, encoding="utf-8")
    place = [s for s in human_sentences(tmp_path, np.random.default_rng(0)) if s.shape == "place"]
    assert place[0].facts.style == "swing"
    assert place[0].facts.families == ("reeds",)
    assert place[0].tempo_range_bpm == (48.0, 80.0)


def test_templates_are_filled_with_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "musecoco_templates.csv").write_text(
        "attributes,template\nK1_1 T1_1,A slow song in the [KEY] key.\n"
        "S2_1,By [ARTIST].\nP4_1 K1_1,[RANGE] octaves in [KEY].\n",
        encoding="utf-8",
    )
    sentences = list(human_sentences(tmp_path, np.random.default_rng(0)))
    assert {s.shape for s in sentences} == {"template"}
    assert all(s.tempo_range_bpm == (48.0, 80.0) for s in sentences)
    assert all("[" not in s.text and s.facts.tonality is not None for s in sentences)


def test_a_folder_without_captions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MelismaError, match="holds no captions"):
        list(human_sentences(tmp_path, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("a male vocalist sings over drums", "families", ("drums",)),
        ("a children's choir", "families", ("choir",)),
        ("techno", "style", "dance"),
        ("a drum beat with piano", "style", None),
        ("a drum beat", "style", "drum groove"),
        ("quiet and soft", "dynamics", "soft"),
        ("soft verse, loud chorus", "dynamics", None),
        ("music at 90 bpm in F# minor", "tempo_bpm", 90.0),
        ("music at 90 bpm in F# minor", "tonality", "F# minor"),
        ("sinister and eerie", "moods", ("dark",)),
    ],
)
def test_keywords(words: str, name: str, value: object) -> None:
    assert getattr(keyword_facts(words).facts, name) == value


@pytest.mark.parametrize(
    ("words", "low", "high"),
    [("slow tempo", 48, 80), ("medium to uptempo", 95, 132), ("uptempo", 115, 175)],
)
def test_tempo_words(words: str, low: float, high: float) -> None:
    assert keyword_facts(words).tempo_range_bpm == (low, high)
