"""An all-piano generator is found out; parts of the corpus are not."""

import re

import numpy as np
import pytest
from scipy.stats import binomtest

from melisma.data.captions.keyword_facts import keyword_facts
from melisma.evaluate.measured import Measured
from melisma.evaluate.metrics.statistics import wilson
from melisma.evaluate.sections.bias import (
    ATTRIBUTES,
    NOTHING,
    Traits,
    bias_plots,
    bias_rows,
    divergence,
    measure_bias,
    open_prompts,
    read_open_prompts,
    tempo_class,
    traits_of,
    variation,
)
from melisma.values.attributes import FAMILIES, STYLES, TONALITIES
from melisma.values.errors import MelismaError


def draw_corpus(count: int, seed: int) -> list[Traits]:
    rng = np.random.default_rng(seed)
    leads = rng.choice(FAMILIES, size=count)
    return [
        Traits(
            lead=str(lead),
            families=(str(lead), "bass") if lead != "bass" else ("bass",),
            tempo_bpm=float(rng.uniform(50.0, 180.0)),
            tonality=str(rng.choice(TONALITIES)),
            metre=str(rng.choice(["3/4", "4/4"])),
        )
        for lead in leads
    ]


CORPUS = draw_corpus(600, seed=0)
PIANO = [
    Traits(lead="piano", families=("piano",), tempo_bpm=100.0, tonality="C major", metre="4/4")
] * 60


def test_an_all_piano_generator_is_found_out() -> None:
    found = {one.attribute: one for one in measure_bias(PIANO, CORPUS, repeats=300)[0]}
    lead = found["lead"]
    assert lead.is_biased
    assert lead.distance.value > 0.9
    assert lead.distance.low > lead.floor_high
    assert lead.over == ("piano",)
    assert "too often piano (100" in lead.sentence()
    assert found["families"].over == ("piano",)
    assert "bass" in found["families"].under
    assert found["mode"].over == ("major",)
    assert found["mode"].under == ("minor",)
    assert found["tonality"].over == ("C major",)
    assert found["tempo"].over == ("100 to 120 bpm",)
    assert found["tempo"].classes[0] == "below 60 bpm"


def test_another_part_of_the_corpus_is_not_biased() -> None:
    flagged, named, bounds = 0, 0, []
    for seed in range(1, 7):
        found = measure_bias(draw_corpus(60, seed=seed), CORPUS, repeats=200)[0]
        flagged += sum(one.is_biased for one in found)
        named += sum(len(one.over) + len(one.under) for one in found)
        bounds += [one.distance.value / one.floor for one in found]
    assert flagged <= 6  # of 36, where 5 % is chance
    assert named <= 4  # intervals of 36 attributes, each 95 % for all its classes
    assert 0.8 < np.mean(bounds) < 1.2


def test_the_floor_falls_with_more_outputs() -> None:
    few = measure_bias(CORPUS[:20], CORPUS, repeats=50)[0][0]
    many = measure_bias(CORPUS[:200], CORPUS, repeats=50)[0][0]
    assert few.floor_count == 20
    assert few.floor > 2.0 * many.floor
    assert measure_bias(CORPUS, CORPUS, repeats=50)[0][0].floor_count == 300


def test_distances_by_hand() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.0, 0.5])
    assert variation(p, q) == pytest.approx(0.5)
    assert divergence(p, q) == pytest.approx(0.5)
    assert variation(p, p) == divergence(p, p) == 0.0
    assert divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)


@pytest.mark.parametrize("found", [0, 3, 20])
def test_intervals_of_shares_are_those_of_scipy(found: int) -> None:
    low, high = wilson(np.array([found / 20]), 20, 1.959963984540054)
    expected = binomtest(found, 20).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_not_found_is_a_class_and_not_measured_is_reported() -> None:
    free = [Traits(lead="piano")] * 5 + [Traits(lead="piano", tempo_bpm=90.0)] * 5
    found, problems = measure_bias(free, CORPUS, repeats=50)
    by_name = {one.attribute: one for one in found}
    tempo = by_name["tempo"]
    assert tempo.outputs[tempo.classes.index(NOTHING)] == 0.5
    assert set(by_name) == {"lead", "tempo"}
    assert "no metre is known of the outputs: not compared" in problems


def test_too_few_pieces_are_an_error() -> None:
    with pytest.raises(MelismaError, match="1 outputs"):
        measure_bias(PIANO[:1], CORPUS)
    with pytest.raises(MelismaError, match="four or more"):
        measure_bias(PIANO, CORPUS[:3])


def test_tempi_fall_into_classes() -> None:
    assert tempo_class(59.9) == "below 60 bpm"
    assert tempo_class(60.0) == "60 to 80 bpm"
    assert tempo_class(170.0) == "170 bpm and more"


def test_traits_from_the_judge() -> None:
    tags = np.zeros(len(FAMILIES), dtype=np.float32)
    tags[FAMILIES.index("organ")] = 0.9
    measured = Measured(
        values={"tempo_judge": float("nan")},
        texts={"lead": "organ", "tonality_judge": "C major", "metre": ""},
        tags=tags,
        vector=np.zeros(2, dtype=np.float32),
        windows={},
    )
    expected = Traits(lead="organ", families=("organ",), tonality="C major")
    assert traits_of(measured) == expected


def test_rows_have_the_floor_as_their_ceiling() -> None:
    biases = measure_bias(PIANO, CORPUS, repeats=50)[0]
    rows = bias_rows(biases, "a command")
    assert [row.key for row in rows[:2]] == ["bias_lead", "bias_families"]
    assert rows[0].figure.ceiling == biases[0].floor
    assert rows[0].figure.details["too often"] == "piano"
    assert all(row.section == "bias" for row in rows)
    plots = bias_plots(biases)
    assert list(plots) == [row.key for row in rows]
    assert plots["bias_lead"]["classes"][0] == biases[0].classes[0]


def test_open_prompts_leave_everything_open() -> None:
    prompts = read_open_prompts()
    assert open_prompts(1_000) == [one.words for one in prompts]
    assert open_prompts(0) == []
    groups = {one.words: one.group for one in prompts}
    few = [groups[words] for words in open_prompts(4)]
    assert len(set(few)) == 4
    groups = [one.group for one in prompts]
    assert {name: groups.count(name) for name in groups} == dict.fromkeys(
        ("event", "mood", "place", "neutral"), 15
    )
    assert len({one.words for one in prompts}) == 60
    closed = re.compile(rf"\b({'|'.join((*STYLES, *FAMILIES, 'rock', 'key', 'house'))})s?\b")
    for prompt in prompts:
        read = keyword_facts(prompt.words)
        facts = read.facts
        stated = (facts.style, facts.tonality, facts.metre, facts.tempo_bpm, read.tempo_range_bpm)
        assert stated == (None,) * 5, prompt.words
        assert facts.families == (), prompt.words
        assert not closed.search(prompt.words), prompt.words


def test_every_attribute_has_classes() -> None:
    assert all(Traits().of(attribute) == () for attribute in ATTRIBUTES)
