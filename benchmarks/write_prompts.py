"""Write `prompts/stated_prompts.jsonl`: prompts that say what to play, for judging generation.

Run: `python benchmarks/write_prompts.py [--seed 2]`. The same seed writes the same file.

240 prompts: 12 lead families times 20; all 24 tonalities 10 times, stated by name in every prompt;
tempi log-uniform between 60 and 180 bpm, stated as a number in two of three prompts. Half of the
wordings come from the grammar of `melisma.data.captions.writer`, which the text tower is trained
on, half from the hand-made templates below, which it has never seen. The two halves are sampled
alike otherwise, so that the difference between them is the effect of unfamiliar wording.

Each line: prompt, wording ("grammar" or "template"), lead and families (of FAMILIES), instrument,
tempo_bpm, tempo_stated (whether the number stands in the prompt), tonality, metre and style (null
where the prompt does not say them).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from melisma.data.captions.vocabulary import (
    METRE_TAGS,
    STYLE_TAGS,
    TONIC_SPELLINGS,
    choose,
    with_article,
)
from melisma.data.captions.writer import write_captions
from melisma.joint.settings_words import read_settings
from melisma.values import Facts
from melisma.values.attributes import TONALITIES

OUTPUT = Path(__file__).parent / "prompts" / "stated_prompts.jsonl"
COUNT = 240
SLOWEST_BPM, FASTEST_BPM = 60.0, 180.0

LEADS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "piano": (("piano",), ("waltz", "ballad", "swing", "classical", "romantic", "song")),
    "harpsichord": (("harpsichord",), ("baroque", "renaissance", "classical")),
    "mallets": (
        ("vibraphone", "marimba", "glockenspiel"),
        ("swing", "game", "bossa nova", "lo-fi"),
    ),
    "organ": (("church organ", "organ"), ("church", "baroque", "march")),
    "accordion": (("accordion", "harmonica"), ("waltz", "folk", "song")),
    "guitar": (("nylon-string guitar", "steel-string guitar"), ("bossa nova", "folk", "ballad")),
    "electric guitar": (("electric guitar", "distorted guitar"), ("rock", "game", "ballad")),
    "strings": (("violin", "cello", "string ensemble"), ("waltz", "classical", "romantic")),
    "choir": (("choir",), ("church", "renaissance", "song")),
    "brass": (("trumpet", "trombone", "French horn"), ("march", "swing", "classical")),
    "reeds": (("clarinet", "oboe", "alto sax"), ("swing", "bossa nova", "classical", "waltz")),
    "flutes": (("flute", "recorder", "pan flute"), ("folk", "baroque", "impressionist", "waltz")),
}
"""For each lead family: names of instruments, styles in which it leads."""

STYLE_SETTINGS: dict[str, tuple[float, float, tuple[str, ...], tuple[str, ...]]] = {
    "waltz": (80, 180, ("3/4",), ("piano", "strings")),
    "march": (88, 140, ("2/4", "4/4"), ("drums", "brass")),
    "ballad": (60, 90, ("4/4",), ("strings", "bass", "drums")),
    "bossa nova": (90, 150, ("4/4",), ("guitar", "bass", "drums")),
    "swing": (90, 180, ("4/4",), ("piano", "bass", "drums")),
    "rock": (90, 170, ("4/4",), ("bass", "drums")),
    "lo-fi": (60, 95, ("4/4",), ("electric piano", "bass", "drums")),
    "renaissance": (60, 130, ("4/4", "3/4"), ("guitar", "flutes")),
    "baroque": (60, 150, ("4/4", "3/4"), ("strings", "harpsichord")),
    "classical": (60, 180, ("4/4", "3/4", "2/4"), ("strings", "piano")),
    "romantic": (60, 180, ("4/4", "3/4"), ("piano", "strings")),
    "impressionist": (60, 120, ("4/4", "3/4"), ("harp", "piano")),
    "folk": (60, 180, ("2/4", "3/4", "6/8", "4/4"), ("guitar", "accordion")),
    "church": (60, 110, ("4/4", "3/4"), ("organ", "strings")),
    "song": (60, 140, ("4/4", "3/4", "2/4"), ("piano",)),
    "game": (90, 180, ("4/4",), ("synth", "drums")),
}
"""Slowest and fastest usual bpm, metres and accompanying families; chosen."""

TEMPLATES: tuple[str, ...] = (
    "Key: {key}. Speed: {pace}. Melody instrument: {lead}. Genre: {style}.",
    "{pace}, {key}; the tune goes to the {lead}, the rest to {backing}",
    "Set the metronome to {pace}, choose {key} and give the {lead} the tune.",
    "My niece learns the {lead}. Her wish: {style}, {key}, {pace}.",
    "{lead} up front, {backing} behind. {key}. {pace}.",
    "background for a video: {style}, mainly {lead}, {pace}, tonal centre {key}",
    "Nothing fancy: support from {backing}, theme on the {lead}, always in {key}, {pace}.",
    "A short solo break for {lead} ({key}, {pace}) with {backing} underneath",
    "what if the {lead} had the tune of this {style}? {key}, {pace}",
    "{key} - {pace} - {style} - {lead} - {backing}",
    "We rehearse in {key} today. {pace}. Star of the evening: the {lead}.",
    "Ten seconds out of a {style}, {lead_a} as soloist, written in {key}, moving at {pace}",
    "the {lead} improvises, {backing} keep time, {pace}, everything in {key}",
    "Soundtrack cue 7: {lead} theme, {key}, {metre}, {pace}",
    "Imagine {lead_a} in an empty room, playing in {key}. Pulse: {pace}.",
    "{style}! {lead}! {key}! {pace}!",
    "Begin in {key}, stay there; {lead_a} has the say, {backing} may follow, {pace}.",
    "I hum a {style} in {key}, you answer on the {lead}, {pace}",
    "Exercise no. 3 for {lead}. {metre}, {key}, {pace}.",
    "{lead_a}, {backing}, {key}. count us in: {pace}",
)
"""Wordings that `melisma/corpus` does not use."""

STYLE_WORDS: dict[str, str] = {
    "waltz": "waltz", "march": "march", "ballad": "ballad", "bossa nova": "bossa nova",
    "swing": "swing standard", "rock": "rock riff", "lo-fi": "lo-fi study", "church": "hymn",
    "renaissance": "Renaissance dance", "baroque": "Baroque movement", "game": "video game level",
    "classical": "classical sonata movement", "romantic": "Romantic miniature",
    "impressionist": "impressionist sketch", "folk": "folk dance", "song": "song",
}  # fmt: skip
"""A noun for each style, for the templates."""

_PACE_WORDS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (80.0, ("a slow tread", "an unhurried pulse")),
    (112.0, ("an easy walk", "a middling pulse")),
    (999.0, ("a lively trot", "a quick pulse")),
)
"""Words for the tempi below each limit in bpm."""


def imagined_facts(rng: np.random.Generator, lead: str, tonality: str, tempo_bpm: float) -> Facts:
    """A plausible piece with this lead, tonality and tempo."""
    names, styles = LEADS[lead]
    fitting = [s for s in styles if STYLE_SETTINGS[s][0] <= tempo_bpm <= STYLE_SETTINGS[s][1]]
    style = choose(rng, fitting) if fitting else None
    backing: tuple[str, ...] = ()
    metre = "4/4"
    if style is not None:
        metre = choose(rng, STYLE_SETTINGS[style][2])
        backing = tuple(f for f in STYLE_SETTINGS[style][3] if f != lead)
    return Facts(
        tempo_bpm=tempo_bpm,
        tonality=tonality,
        metre=metre,
        families=(lead, *backing),
        instruments=(choose(rng, names), *backing),
        lead=lead,
        style=style,
    )


def grammar_prompt(facts: Facts, number: bool, rng: np.random.Generator) -> str:
    """The first caption that states the tonality and the lead, and the tempo where wanted."""
    for _ in range(5000):
        (caption,) = write_captions(facts, rng, 1)
        read = read_settings(caption)
        tempo_right = read.tempo_bpm == facts.tempo_bpm if number else read.tempo_bpm is None
        if tempo_right and read.tonality == facts.tonality and facts.lead in read.families:
            return caption
    raise RuntimeError(f"no caption states {facts}")


def template_prompt(template: str, facts: Facts, number: bool, rng: np.random.Generator) -> str:
    """The template filled with the facts."""
    assert facts.tempo_bpm is not None
    assert facts.tonality is not None
    assert facts.metre is not None
    tonic, mode = facts.tonality.split()
    bpm = round(facts.tempo_bpm)
    words = next(words for below, words in _PACE_WORDS if facts.tempo_bpm < below)
    lead = facts.instruments[0]
    number_words = choose(rng, (f"{bpm} bpm", f"{bpm} beats per minute"))
    slots = {
        "key": f"{choose(rng, TONIC_SPELLINGS[tonic])} {mode}",
        "pace": number_words if number else choose(rng, words),
        "lead": lead,
        "lead_a": with_article(lead),
        "backing": _listed(facts.instruments[1:]) or "the others",
        "style": STYLE_WORDS[facts.style] if facts.style else "instrumental",
        "metre": METRE_TAGS[facts.metre][0],
    }  # fmt: skip
    return template.format(**slots)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def balanced(values: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    """`count` values, each equally often, in random order."""
    assert count % len(values) == 0
    copies = list(values) * (count // len(values))
    return [copies[int(i)] for i in rng.permutation(count)]


def rows(seed: int, count: int = COUNT) -> list[dict[str, object]]:
    """`count` prompts (a multiple of 24) with their truth."""
    rng = np.random.default_rng(seed)
    leads = balanced(tuple(LEADS), count, rng)
    tonalities = balanced(TONALITIES, count, rng)
    # Stratified: one tempo in each of `count` equal slices of log tempo, in random order.
    places = (rng.permutation(count) + rng.random(count)) / count
    tempi = np.round(SLOWEST_BPM * (FASTEST_BPM / SLOWEST_BPM) ** places)
    result = []
    for index in range(count):
        facts = imagined_facts(rng, leads[index], tonalities[index], float(tempi[index]))
        number, grammar = index % 3 != 0, index % 2 == 0
        if grammar:
            prompt = grammar_prompt(facts, number, rng)
        else:
            template = TEMPLATES[(index // 2) % len(TEMPLATES)]
            prompt = template_prompt(template, facts, number, rng)
        result.append(_row(prompt, facts, grammar, number))
    return result


def _row(prompt: str, facts: Facts, grammar: bool, number: bool) -> dict[str, object]:
    """One line; what the prompt does not say is null or left out of the families."""
    read = read_settings(prompt)
    low = prompt.lower()
    said = facts.style is not None and any(
        word.lower() in low
        for word in (facts.style, STYLE_WORDS[facts.style], *STYLE_TAGS[facts.style])
    )
    return {
        "prompt": prompt,
        "wording": "grammar" if grammar else "template",
        "lead": facts.lead,
        "instrument": facts.instruments[0],
        "families": [f for f in facts.families if f == facts.lead or f in read.families],
        "tempo_bpm": facts.tempo_bpm,
        "tempo_stated": number,
        "tonality": facts.tonality,
        "metre": facts.metre if read.metre == facts.metre else None,
        "style": facts.style if said else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the stated prompts.")
    parser.add_argument("--seed", type=int, default=2)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(parser.parse_args().seed)]
    OUTPUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} prompts written to {OUTPUT}")


if __name__ == "__main__":
    main()
