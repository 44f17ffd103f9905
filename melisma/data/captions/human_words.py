"""Reader of captions that people wrote, with the attributes that their keywords name.

Input: a folder with `musiccaps.csv` (Agostinelli et al. 2023, CC BY-SA 4.0),
`acestep_examples.csv` (ACE-Step 1.5, MIT), `audioset_music_ontology.csv` (Gemmeke et al. 2017,
CC BY-SA 4.0) and `musecoco_templates.csv` (Lu et al. 2023, MIT); some may be missing. Outputs:
`HumanSentence` values. `song_describer.csv` is reserved for evaluation.

A description of MusicCaps is used in up to four shapes: whole; its aspects as tags; only its scenic
sentences ("may be playing in a coffee shop"); only the ends of these ("in a coffee shop"). Every
shape has the attributes that the *whole* description names, so that places and uses, which name no
attribute themselves, are associated with what people mean by them.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from melisma.data.captions.keyword_facts import KeywordFacts, keyword_facts
from melisma.data.captions.vocabulary import (
    METRE_TAGS,
    MOOD_WORDS,
    STYLE_TAGS,
    TONIC_SPELLINGS,
    choose,
    joined,
)
from melisma.joint.instrument_words import named_families
from melisma.values import Facts
from melisma.values.attributes import FAMILIES, METRES, MOODS, STYLES, TONALITIES
from melisma.values.errors import MelismaError
from melisma.values.prompt import clean_text

SHAPES: tuple[str, ...] = ("whole", "tags", "scene", "place", "template")


@dataclass(frozen=True, kw_only=True)
class HumanSentence:
    """A text by a person, and what is known about the music it describes."""

    text: str
    shape: str
    """One of `SHAPES`."""
    facts: Facts
    tempo_range_bpm: tuple[float, float] | None
    """Lowest and highest tempo meant by words without a number; None if tempo is not mentioned."""


def human_sentences(folder: Path, rng: np.random.Generator) -> Iterator[HumanSentence]:
    """Read all sentences of the caption files in a folder, in a fixed order.

    Args:
        folder: Folder with at least one of the files named in the module docstring.
        rng: Random generator that fills the templates of MuseCoco.

    Yields:
        The sentences, file by file.

    Raises:
        MelismaError: If the folder contains none of the files.
    """
    readers = {
        "musiccaps.csv": _musiccaps,
        "acestep_examples.csv": _acestep,
        "audioset_music_ontology.csv": _audioset,
        "musecoco_templates.csv": lambda rows: _musecoco(rows, rng),
    }
    found = [name for name in readers if (folder / name).is_file()]
    if not found:
        raise MelismaError(f"{folder} holds no captions: one of {', '.join(readers)} is needed")
    for name in found:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            yield from readers[name](list(csv.DictReader(file)))


# --- MusicCaps -----------------------------------------------------------------------------------

_ABOUT_SOUND_QUALITY = re.compile(
    r"low quality|poor audio|bad audio|inferior|mono\b|noisy|amateur recording|recording quality|"
    r"muffled|hissing|unbalanced stereo|panned|distorted audio|static|white noise|crushed|boomy",
    re.IGNORECASE,
)
_SCENIC = re.compile(
    r"(?:(?:may|might|could|can|would|will|should) (?:also )?(?:be|fit|suit|work|serve|easily)\b"
    r"[^.]*\b(?:playing|played|used|heard|suitable|lifted|featured|part|in|at|for)\b"
    r"|you (?:would|could|might|can) hear|suitable for|sounds? like something|reminiscent of|"
    r"evok\w+|makes? (?:you|one|me) (?:feel|think|want)|perfect for|ideal for|background music)",
    re.IGNORECASE,
)
_SCENIC_END = re.compile(
    r"\b(?:playing|played|hear|heard|used|suitable|perfect|ideal|fit well|reminiscent of|"
    r"evok\w+)\s+((?:live |as |well |somewhere |something )?"
    r"(?:in|at|for|on|during|as|while|around|near|a|an|the)\b[^.]{8,})",
    re.IGNORECASE,
)


def _musiccaps(rows: list[dict[str, str]]) -> Iterator[HumanSentence]:
    for row in rows:
        aspects = [a for a in _aspects(row["aspect_list"]) if not _ABOUT_SOUND_QUALITY.search(a)]
        caption = " ".join(row["caption"].split())
        keywords = keyword_facts(". ".join([*aspects, caption]))
        yield _sentence(caption, "whole", keywords)
        if aspects:
            yield _sentence(", ".join(aspects), "tags", keywords)
        sentences = re.split(r"(?<=[.!?])\s+", caption)
        scenic = [s for s in sentences if _SCENIC.search(s) and not any(named_families(s))]
        if not scenic:
            continue
        yield _sentence(" ".join(scenic), "scene", keywords)
        for sentence in scenic:
            if end := _SCENIC_END.search(sentence):
                yield _sentence(end.group(1).strip(" ."), "place", keywords)


def _aspects(cell: str) -> list[str]:
    """The aspect list, stored as a Python literal; empty if it is malformed."""
    try:
        value = ast.literal_eval(cell)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []
    words = value if isinstance(value, list) else []
    return [clean_text(item) for item in words if isinstance(item, str)]


def _sentence(text: str, shape: str, keywords: KeywordFacts) -> HumanSentence:
    return HumanSentence(
        text=text, shape=shape, facts=keywords.facts, tempo_range_bpm=keywords.tempo_range_bpm
    )


# --- ACE-Step and AudioSet -----------------------------------------------------------------------


def _acestep(rows: list[dict[str, str]]) -> Iterator[HumanSentence]:
    """English examples, without and with the columns of tempo, key and metre written out."""
    for row in rows:
        caption = " ".join(row["caption"].split())
        if not caption.isascii() or row["vocal_language"] not in ("en", "unknown"):
            continue
        stated = [f"{row['bpm']} bpm" if row["bpm"] else "", row["keyscale"]]
        if row["timesignature"] in ("2", "3", "4"):
            stated.append(f"{row['timesignature']}/4")
        numbers = ", ".join(cell for cell in stated if cell)
        yield _sentence(caption, "whole", keyword_facts(caption))
        if numbers:
            text = f"{numbers}. {caption}"
            yield _sentence(text, "whole", keyword_facts(text))


def _audioset(rows: list[dict[str, str]]) -> Iterator[HumanSentence]:
    """Names of genres, instruments and moods, without and with the start of their definition."""
    for row in rows:
        name, definition = row["name"], row["description"].split(". ")[0]
        keywords = keyword_facts(f"{name}. {definition}")
        yield _sentence(name, "tags", keyword_facts(name))
        yield _sentence(f"{name}: {definition}", "whole", keywords)


# --- MuseCoco ------------------------------------------------------------------------------------

_FILLABLE = frozenset({"I1_1", "K1_1", "T1_0", "T1_1", "T1_2", "TS1_1", "EM1_1", "S4_1"})
_SLOT_OF = {
    "I1_1": "[INSTRUMENTS]",
    "K1_1": "[KEY]",
    "TS1_1": "[TIME_SIGNATURE]",
    "EM1_1": "[EMOTION]",
    "S4_1": "[GENRE]",
}
_TEMPO_OF = {"T1_0": (115.0, 175.0), "T1_1": (48.0, 80.0), "T1_2": (80.0, 115.0)}
LONGEST_TEMPLATE = 260
"""Characters; longer templates are essays about music (chosen after inspecting them)."""
FILLS_PER_TEMPLATE = 3
"""Number of sentences made from each template."""


def _musecoco(rows: list[dict[str, str]], rng: np.random.Generator) -> Iterator[HumanSentence]:
    for row in rows:
        codes = set(row["attributes"].split())
        template = " ".join(row["template"].split())
        slots = set(re.findall(r"\[[A-Z_0-9]+\]", template))
        expected = {_SLOT_OF[code] for code in codes & set(_SLOT_OF)}
        if not codes or codes - _FILLABLE or slots != expected or len(template) > LONGEST_TEMPLATE:
            continue
        for _ in range(FILLS_PER_TEMPLATE):
            yield _filled(template, codes, rng)


def _filled(template: str, codes: set[str], rng: np.random.Generator) -> HumanSentence:
    """Fill the slots of a template with random attributes."""
    families = tuple(
        FAMILIES[int(i)] for i in rng.choice(len(FAMILIES), int(rng.integers(1, 4)), replace=False)
    )
    tonality, metre = choose(rng, TONALITIES), choose(rng, METRES)
    mood, style = choose(rng, MOODS), choose(rng, STYLES[:-1])
    tonic, mode = tonality.split()
    fillings = {
        "[INSTRUMENTS]": joined(rng, list(families)),
        "[KEY]": f"{choose(rng, TONIC_SPELLINGS[tonic])} {mode}",
        "[TIME_SIGNATURE]": METRE_TAGS[metre][0],
        "[EMOTION]": choose(rng, MOOD_WORDS[mood]),
        "[GENRE]": choose(rng, STYLE_TAGS[style]),
    }
    for slot, words in fillings.items():
        template = template.replace(slot, words)
    facts = Facts(
        families=families if "I1_1" in codes else (),
        tonality=tonality if "K1_1" in codes else None,
        metre=metre if "TS1_1" in codes else None,
        moods=(mood,) if "EM1_1" in codes else (),
        style=style if "S4_1" in codes else None,
    )
    ranges = [_TEMPO_OF[code] for code in sorted(codes & set(_TEMPO_OF))]
    return HumanSentence(
        text=template, shape="template", facts=facts, tempo_range_bpm=ranges[0] if ranges else None
    )
