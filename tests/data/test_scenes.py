"""Scenes are well formed, fit only what they may, and stay apart from the held-out prompts."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from melisma.data.captions.scenes import all_scenes, fits, fitting_scene, scene_clause, scene_phrase
from melisma.values import Facts
from melisma.values.attributes import DYNAMICS, FAMILIES, MOODS, STYLES

FREE_PROMPTS = Path(__file__).parents[2] / "benchmarks" / "prompts" / "free_prompts.jsonl"
FUNCTION_WORDS = frozenset({
    "a", "an", "the", "in", "on", "of", "at", "to", "and", "or", "for", "with", "by", "from",
    "as", "is", "are", "be", "it", "its", "his", "her", "my", "your", "their", "one", "two",
    "three", "first", "last", "who", "that", "this", "no", "not", "without", "under", "over",
    "into", "up", "down", "out", "off", "until", "through", "between", "while", "after",
    "before", "someone", "somebody", "let", "s", "you", "me", "we", "i", "they", "don", "t",
    "old", "young",
})  # fmt: skip


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def free_prompts() -> list[dict]:
    return [json.loads(line) for line in FREE_PROMPTS.read_text(encoding="utf-8").splitlines()]


def test_every_scene_uses_known_words() -> None:
    scenes = all_scenes()
    assert len(scenes) >= 200
    assert len({scene.text for scene in scenes}) == len(scenes)
    for scene in scenes:
        assert scene.kind in ("use", "place", "image")
        assert scene.moods
        assert set(scene.moods) <= set(MOODS)
        assert set(scene.styles) <= set(STYLES)
        assert set(scene.families) <= set(FAMILIES)
        assert scene.dynamics in (None, *DYNAMICS)
        assert scene.mode in (None, "major", "minor")
        assert 40 <= scene.tempo_bpm[0] < scene.tempo_bpm[1] <= 220


@pytest.mark.parametrize(
    ("facts", "allowed"),
    [
        (Facts(moods=("calm", "dreamy"), tempo_bpm=60.0), True),
        (Facts(moods=("calm",), tempo_bpm=150.0), False),
        (Facts(moods=("calm",), dynamics="loud"), False),
        (Facts(moods=("energetic",)), False),
        (Facts(moods=("calm", "energetic")), False),
        (Facts(), False),
    ],
)
def test_fog_fits_only_quiet_music(facts: Facts, allowed: bool) -> None:
    (fog,) = [scene for scene in all_scenes() if scene.text == "fog over a still lake"]
    assert fits(fog, facts) is allowed


def test_a_drum_groove_gets_only_scenes_made_for_it() -> None:
    groove = Facts(style="drum groove", families=("drums",), moods=("energetic",), tempo_bpm=100.0)
    rng = np.random.default_rng(0)
    for _ in range(30):
        scene = fitting_scene(groove, rng, attempts=300)
        assert scene is not None
        assert "drum groove" in scene.styles


def test_phrases_hold_the_scene() -> None:
    rng = np.random.default_rng(0)
    for scene in all_scenes():
        assert scene.text in scene_clause(scene, rng)
        assert scene.text in scene_phrase(scene, rng)


def test_no_held_out_prompt_shares_four_words_in_a_row_with_a_scene() -> None:
    def fours(text: str) -> set[tuple[str, ...]]:
        words = words_of(text)
        return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}

    known = set().union(*(fours(scene.text) for scene in all_scenes()))
    for row in free_prompts():
        assert not fours(row["prompt"]) & known, row["prompt"]


def test_no_held_out_prompt_shares_two_content_words_with_a_scene() -> None:
    scenes = [set(words_of(scene.text)) - FUNCTION_WORDS for scene in all_scenes()]
    for row in free_prompts():
        prompt = set(words_of(row["prompt"]))
        assert all(len(prompt & scene) < 2 for scene in scenes), row["prompt"]


def test_held_out_prompts_expect_known_values() -> None:
    allowed = {
        "tempo": {"slow", "moderate", "fast"},
        "dynamics": set(DYNAMICS),
        "style": set(STYLES),
        "moods": set(MOODS),
        "families": set(FAMILIES),
    }
    rows = free_prompts()
    assert len(rows) == len({row["prompt"] for row in rows}) == 100
    for row in rows:
        assert row["expect"].pop("mode", "minor") in ("major", "minor")
        for name, values in row["expect"].items():
            assert values
            assert set(values) <= allowed[name]
