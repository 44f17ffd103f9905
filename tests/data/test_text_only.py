"""Synthetic pieces are plausible and varied; their sentences are true."""

from collections import Counter

import numpy as np

from melisma.data.captions.scenes import all_scenes, are_opposites
from melisma.data.captions.text_only import (
    attribute_sentence,
    facts_of_scene,
    random_facts,
    scene_sentence,
)
from melisma.joint.settings_words import read_settings
from melisma.values.attributes import FAMILIES, STYLES, TONALITIES


def test_every_value_occurs() -> None:
    rng = np.random.default_rng(0)
    pieces = [random_facts(rng) for _ in range(1500)]
    assert {p.tonality for p in pieces} >= set(TONALITIES)
    assert {p.style for p in pieces} >= set(STYLES)
    assert {p.lead for p in pieces} >= set(FAMILIES) - {"drums", "bass"}
    assert len({name for p in pieces for name in p.instruments}) > 100
    slow = sum(p.tempo_bpm is not None and p.tempo_bpm < 70 for p in pieces)
    fast = sum(p.tempo_bpm is not None and p.tempo_bpm > 140 for p in pieces)
    assert min(slow, fast) > 100


def test_random_moods_agree() -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        facts = random_facts(rng)
        assert not any(are_opposites(a, b) for a in facts.moods for b in facts.moods)
        if facts.tempo_bpm is not None and facts.tempo_bpm < 75:
            assert not {"happy", "energetic", "playful"} & set(facts.moods)


def test_sentences_are_true_and_reproducible() -> None:
    sentences = [attribute_sentence(np.random.default_rng(seed)) for seed in range(200)]
    assert sentences[:5] == [attribute_sentence(np.random.default_rng(seed)) for seed in range(5)]
    for text, facts in sentences:
        assert read_settings(text).tonality in (None, facts.tonality), text


def test_facts_of_a_scene_agree_with_it() -> None:
    rng = np.random.default_rng(2)
    for scene in all_scenes():
        facts = facts_of_scene(scene, rng)
        assert facts.tempo_bpm is not None
        assert scene.tempo_bpm[0] <= facts.tempo_bpm <= scene.tempo_bpm[1]
        assert set(facts.families) <= set(scene.families)
        assert facts.style is None or facts.style in scene.styles


def test_scene_sentences_are_many() -> None:
    rng = np.random.default_rng(3)
    texts = Counter(scene_sentence(rng)[0] for _ in range(500))
    assert len(texts) > 400
