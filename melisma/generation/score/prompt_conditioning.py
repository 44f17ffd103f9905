"""From a prompt to what the score model is told, and to what of the score is settled.

Enters: a `ScorePrompt`. Leaves: `ScoreConditioning`. The text tower of the joint embedding reads
the words; what they state exactly, and the exact settings, override it. Tempo and metre are settled
before anything is drawn, so the file has exactly those; that the *notes* move at that tempo and in
that metre is the model's work.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from melisma.generation.conditioning.prompt import READ, sampled_tempo_bpm
from melisma.generation.score.instrumentation import alone, family_choices, instruments_in
from melisma.joint import JointEmbedding
from melisma.joint.attributes import ATTRIBUTES, BLOCKS, AttributePrediction
from melisma.joint.settings_words import read_bar_metre
from melisma.lm.score.conditioning import SCORE_ATTRIBUTES, ScoreConditions, class_of
from melisma.lm.score.plan import Choice
from melisma.lm.score.rows import home_shift
from melisma.symbolic.instruments import INSTRUMENTS
from melisma.values import Facts
from melisma.values.attributes import FAMILIES, METRES, MOODS, STYLES, TONALITIES, program_family
from melisma.values.composers import named_period, period
from melisma.values.errors import MelismaError
from melisma.values.events import BAR_METRES, DRUM_PROGRAM, tempo_class
from melisma.values.score_prompt import ScorePrompt, felt_beat
from melisma.values.traditions import COMPOSERS, TRADITIONS, named_composer, named_tradition

FAMILY_READ = 0.7
"""Families at least so probable play, where no instrument is named."""
MODE_READ = 0.7
"""A mode at least so probable is kept to, where the tonality itself is open."""
MOOD_READ = 0.5
CLEARLY_READ = 0.6
"""The same for attributes of three classes."""

_USUAL_METRES: dict[str, tuple[int, int]] = {
    "waltz": (3, 4), "Polish mazurka": (3, 4), "polonaise": (3, 4), "minuet": (3, 4),
    "polka": (2, 4), "Polish krakowiak": (2, 4), "tango": (2, 4), "ragtime": (2, 4),
    "march": (4, 4),
}  # fmt: skip
"""Metres that a tradition or style implies."""
_TONIC_WEIGHTS = (9, 1, 7, 4, 4, 7, 1, 9, 3, 6, 5, 2)
"""How often each tonic is drawn where only the mode is asked for: few sharps and flats (chosen)."""


@dataclass(frozen=True, kw_only=True)
class ScoreConditioning:
    """What one prompt asks of a score."""

    prompt: ScorePrompt
    words: np.ndarray
    """The words in the joint space, float32 [128]; zeros where there are none."""
    tempo_bpm: float
    """Felt beats a minute."""
    metre: tuple[int, int]
    tonality: str | None
    mode: str | None
    """ "major" or "minor" where asked for, also with the tonality."""
    programs: tuple[int, ...]
    """Parts that are settled."""
    choices: tuple[Choice, ...]
    """Parts that the model chooses."""
    named: tuple[int, ...]
    """Programs that the prompt names, settled or to be chosen; empty where it names none."""
    attributes: dict[str, str]
    """Class of every attribute that is asked for, tempo left out."""
    families: tuple[str, ...]
    moods: tuple[str, ...]
    stated: Facts
    """What words and settings state outright, players by name, for the receipt."""

    @property
    def bars(self) -> int:
        """Bars to draw."""
        if self.prompt.bars is not None:
            return self.prompt.bars
        beats = self.prompt.duration_seconds * self.tempo_bpm / 60.0
        return max(round(beats * felt_beat(self.metre) / self.bar_beats), 2)

    @property
    def bar_beats(self) -> float:
        """Length of a bar in quarter notes."""
        return self.metre[0] * 4.0 / self.metre[1]

    @property
    def quarter_bpm(self) -> float:
        """Quarter notes a minute."""
        return self.tempo_bpm * felt_beat(self.metre)

    @property
    def metre_class(self) -> int:
        """Index into `BAR_METRES`."""
        return BAR_METRES.index(self.metre)

    @property
    def tempo_class(self) -> int:
        """Class of the bars' tempo."""
        return tempo_class(self.quarter_bpm)

    @property
    def home_shift(self) -> int:
        """Semitones from the tonality asked for to the model's own, see `score_rows.home_shift`."""
        return 0 if self.tonality is None else home_shift(TONALITIES.index(self.tonality))

    def shown(self) -> dict[str, str]:
        """In words, for receipts."""
        shown = {
            "tempo": f"{self.tempo_bpm:.0f} bpm",
            "metre": f"{self.metre[0]}/{self.metre[1]}",
        }
        for name in ("tonality", "composer", "tradition", "style", "density", "dynamics"):
            if name in self.attributes:
                shown[name] = self.attributes[name]
        if self.named:
            shown["instruments"] = ", ".join(_player_name(program) for program in self.named)
        return shown


def condition_on_score_prompt(
    joint: JointEmbedding, prompt: ScorePrompt, generator: torch.Generator
) -> ScoreConditioning:
    """Reads a prompt. What the words leave open (a tempo, a tonic) is drawn where it must be."""
    words = prompt.words.strip()
    reading = joint.read_prompt(words) if words else _nothing_read()
    metre = _metre(prompt, reading, words)
    stated = Facts(
        tempo_bpm=prompt.tempo_bpm or reading.stated.tempo_bpm,
        tonality=prompt.tonality or reading.stated.tonality,
        metre=f"{metre[0]}/{metre[1]}" if f"{metre[0]}/{metre[1]}" in METRES else None,
    )
    tonality, mode = _tonality(stated.tonality, reading, generator, bool(words))
    tempo_bpm = stated.tempo_bpm or sampled_tempo_bpm(reading, generator)
    attributes = _attributes(prompt, reading, words)
    if tonality is not None:
        attributes["tonality"] = tonality
    if stated.metre is not None:
        attributes["metre"] = stated.metre
    programs, choices, named = _players(prompt, reading, words)
    families = tuple(dict.fromkeys(_family(program) for program in named)) or (
        reading.classes_above("families", FAMILY_READ) if words else ()
    )
    if attributes.get("lead") not in (*families, None):
        del attributes["lead"]
    return ScoreConditioning(
        prompt=prompt,
        words=joint.embed_text([words])[0] if words else np.zeros(128, np.float32),
        tempo_bpm=float(tempo_bpm),
        metre=metre,
        tonality=tonality,
        mode=mode,
        programs=programs,
        choices=choices,
        named=named,
        attributes=attributes,
        families=families,
        moods=reading.classes_above("moods", MOOD_READ) if words else (),
        stated=dataclasses.replace(
            stated,
            metre=stated.metre if prompt.metre or reading.stated.metre else None,
            instruments=tuple(_player_name(program) for program in named),
        ),
    )


def _player_name(program: int) -> str:
    return "drums" if program == DRUM_PROGRAM else INSTRUMENTS[program]


def _nothing_read() -> AttributePrediction:
    """Every class as likely as any other, but tempi around a walking pace."""
    row = np.zeros(max(block.stop for block in BLOCKS.values()), dtype=np.float32)
    for attribute in ATTRIBUTES:
        block = BLOCKS[attribute.name]
        row[block] = 0.0 if attribute.several else 1.0 / (block.stop - block.start)
    tempi = np.array([float(word) for word in ATTRIBUTES[0].classes])
    row[BLOCKS["tempo"]] = np.exp(-0.5 * (np.log2(tempi / 100) / 0.35) ** 2)
    row[BLOCKS["tempo"]] /= row[BLOCKS["tempo"]].sum()
    return AttributePrediction(row=row)


def _metre(prompt: ScorePrompt, reading: AttributePrediction, words: str) -> tuple[int, int]:
    said = read_bar_metre(words)
    if said not in BAR_METRES:
        said = None if reading.stated.metre is None else _pair(reading.stated.metre)
    if prompt.metre is not None and said is not None and not _kin(said, prompt.metre):
        raise MelismaError(
            f"the words say {said[0]}/{said[1]} and the setting {prompt.metre[0]}/"
            f"{prompt.metre[1]}: no bar is both, so change one of them"
        )
    if prompt.metre is not None or said is not None:
        return prompt.metre or said or (4, 4)
    for name in (prompt.style, named_tradition(words)):
        if name in _USUAL_METRES:
            return _USUAL_METRES[name]
    best, sure = reading.best("metre")
    return _pair(best) if sure >= READ else (4, 4)


def _kin(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two metres count alike: 2/4, 4/4 and 2/2 do, 3/4 and 3/8 do."""
    odd = [numerator // (numerator & -numerator) for numerator, _ in (one, other)]
    return one == other or odd[0] == odd[1]


def _pair(metre: str) -> tuple[int, int]:
    top, _, bottom = metre.partition("/")
    return int(top), int(bottom)


def _tonality(
    stated: str | None, reading: AttributePrediction, generator: torch.Generator, has_words: bool
) -> tuple[str | None, str | None]:
    """(tonality, mode). Where the words ask for a mode alone, a tonic is drawn."""
    if stated is not None:
        return stated, stated.split()[1]
    if not has_words:
        return None, None
    best, sure = reading.best("tonality")
    block = reading.row[BLOCKS["tonality"]]
    major = float(block[:12].sum()) / max(float(block.sum()), 1e-9)
    if sure >= READ:
        return best, best.split()[1]
    if max(major, 1 - major) < MODE_READ:
        return None, None
    weights = torch.tensor(_TONIC_WEIGHTS, dtype=torch.float64)
    tonic = int(torch.multinomial(weights, 1, generator=generator))
    mode = "major" if major > 0.5 else "minor"
    return TONALITIES[tonic + (12 if mode == "minor" else 0)], mode


def _attributes(prompt: ScorePrompt, reading: AttributePrediction, words: str) -> dict[str, str]:
    """Style, composer, tradition, density and the like."""
    found: dict[str, str] = {}
    if words:
        for name in ("lead", "style", "density", "dynamics", "register", "articulation"):
            best, sure = reading.best(name)
            if sure >= (READ if name in ("lead", "style") else CLEARLY_READ):
                found[name] = best
    composer, tradition = named_composer(words), named_tradition(words)
    if prompt.style in COMPOSERS:
        composer = prompt.style
    elif prompt.style in STYLES:
        found["style"] = prompt.style
    elif prompt.style in TRADITIONS:
        tradition = prompt.style
    when = named_period(words)
    if composer is not None:
        found["composer"] = composer
        when = period(composer)
    if when is not None and prompt.style not in STYLES:
        found["style"] = when
    if tradition is not None:
        found["tradition"] = tradition
        known = when is not None or prompt.style in STYLES
        if not known and found.get("style", "") not in words:
            found.pop("style", None)  # a guess at a polka's style knows less than the word does
    return found


def _players(
    prompt: ScorePrompt, reading: AttributePrediction, words: str
) -> tuple[tuple[int, ...], tuple[Choice, ...], tuple[int, ...]]:
    """(settled parts, parts to choose, programs named)."""
    if len(prompt.programs) == 1:
        return *alone(prompt.programs[0]), prompt.programs
    if prompt.programs:
        return prompt.programs, (), tuple(dict.fromkeys(prompt.programs))
    settled, choices = instruments_in(words)
    if settled or choices:
        named = [*settled, *(p for choice in choices for p in choice.programs)]
        return settled, choices, tuple(dict.fromkeys(named))
    families = reading.classes_above("families", FAMILY_READ) if words else ()
    return (), family_choices(families), ()


def _family(program: int) -> str:
    drum = program == DRUM_PROGRAM
    return program_family(0 if drum else program, drum)


def conditioning_of(asked: list[ScoreConditioning]) -> ScoreConditions:
    """Conditions of a batch of pieces."""
    told = ScoreConditions.absent(len(asked))
    attributes, families, moods = told.attributes.clone(), told.families.clone(), told.moods.clone()
    for i, one in enumerate(asked):
        facts = dict[str, object](one.attributes)
        for place, (name, _) in enumerate(SCORE_ATTRIBUTES):
            if name == "tempo":
                attributes[i, place] = class_of("tempo", one.tempo_bpm)
            elif name in facts:
                attributes[i, place] = class_of(name, facts[name])
            if name == "tonality" and name in facts:
                attributes[i, place] = attributes[i, place] // 12 * 12  # the model's own tonic
        if one.families:
            families[i] = torch.tensor([float(name in one.families) for name in FAMILIES])
        if one.moods:
            moods[i] = torch.tensor([float(name in one.moods) for name in MOODS])
    return dataclasses.replace(
        told,
        words=torch.from_numpy(np.stack([one.words for one in asked])).float(),
        attributes=attributes,
        families=families,
        moods=moods,
    )
