"""Conditioning of the language models by a prompt.

The text tower of the joint embedding takes the place that the music tower has in training (MusicLM,
2301.11325, section 3.3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.understanding import (
    Understanding,
    Used,
    read_by_another_encoder,
    understand,
)
from melisma.joint import JointEmbedding
from melisma.joint.attributes import ATTRIBUTES, BLOCKS, AttributePrediction
from melisma.joint.embedding import NO_WORDS
from melisma.joint.instrument_words import families_of_names, named_instruments
from melisma.joint.settings_words import read_settings
from melisma.lm.conditioning import Condition, Conditioning
from melisma.values import Facts
from melisma.values.attributes import CONDITION_ATTRIBUTES, FAMILIES
from melisma.values.prompt import Prompt
from melisma.values.score_prompt import ScorePrompt
from melisma.values.tokens import FRAME_RATE_HZ

STYLE_LEVELS = 2
"""Levels of the style tokens that are used of words: deeper ones describe single clips."""
ATTRIBUTE_THRESHOLD = 0.4
"""Least probability of a class that is used: otherwise the attribute is left open."""
MOOD_THRESHOLD = 0.5
"""Least probability of a mood that counts as requested."""
FAMILY_THRESHOLD = 0.5
"""Least probability of an instrument family that counts as named."""
FELT_BEATS = {"2/4": 2, "3/4": 3, "4/4": 4, "6/8": 2}
"""Felt beats of a bar, by metre."""


@dataclass(frozen=True, kw_only=True)
class PromptConditioning:
    """What one prompt requests of the model."""

    words: str
    """The words of the prompt without what they exclude."""
    vector: np.ndarray
    """Joint embedding of the words, float32 [128]."""
    style: np.ndarray
    """The nearest music embedding, quantized to `STYLE_LEVELS` style tokens, float32 [128]."""
    reading: AttributePrediction
    """Probabilities of every attribute; what is stated explicitly has probability 1."""
    tempo_bpm: float
    """Felt beats per minute."""
    metre: str
    """One of `METRES`."""
    attributes: dict[str, int]
    """Class index of each requested attribute of `CONDITION_ATTRIBUTES`."""
    families: tuple[str, ...]
    """Requested instrument families."""
    absent: tuple[str, ...] = ()
    """Excluded instrument families."""

    def shown(self) -> dict[str, str]:
        """The conditioning in words, by attribute, for receipts."""
        shown = {"tempo": f"{self.tempo_bpm:.0f} bpm", "metre": self.metre}
        for attribute in ATTRIBUTES:
            if attribute.name in self.attributes and attribute.name not in shown:
                shown[attribute.name] = attribute.classes[self.attributes[attribute.name]]
        if self.families:
            shown["instruments"] = ", ".join(self.families)
        if self.absent:
            shown["without"] = ", ".join(self.absent)
        return shown


def condition_on_prompt(
    joint: JointEmbedding, prompt: Prompt, generator: torch.Generator
) -> PromptConditioning:
    """Computes the conditioning of a prompt.

    Args:
        joint: The joint embedding, whose text tower predicts attributes from the words.
        prompt: Words and exact settings, which take precedence.
        generator: Samples the tempo where words and settings do not state it.
    """
    exact = Facts(tempo_bpm=prompt.tempo_bpm, tonality=prompt.tonality, metre=prompt.metre)
    absent = absent_families(prompt)
    kept = read_settings(prompt.words).kept.strip() or NO_WORDS
    reading = joint.read_prompt(prompt.words, absent)
    stated = dataclasses.replace(
        reading.stated,
        **{name: value for name, value in vars(exact).items() if value not in (None, ())},
    )
    reading = reading.overridden(stated, absent)
    tempo_bpm = stated.tempo_bpm or sampled_tempo_bpm(reading, generator)
    metre, probability = reading.best("metre")
    metre = metre if probability >= ATTRIBUTE_THRESHOLD else "4/4"
    attributes = {}
    for attribute in ATTRIBUTES:
        if attribute.name in CONDITION_ATTRIBUTES:
            name, probability = reading.best(attribute.name)
            if probability >= ATTRIBUTE_THRESHOLD:
                attributes[attribute.name] = attribute.classes.index(name)
    # The tempo class always agrees with the rhythm condition.
    tempo_row = Facts(tempo_bpm=tempo_bpm)
    attributes["tempo"] = int(reading.overridden(tempo_row).row[BLOCKS["tempo"]].argmax())
    attributes["metre"] = ATTRIBUTES[2].classes.index(metre)
    vector = joint.embed_text([kept])
    style = joint.dequantise(joint.quantise(joint.nearest_music(vector))[:, :STYLE_LEVELS])
    return PromptConditioning(
        words=kept,
        vector=vector[0],
        style=style[0],
        reading=reading,
        tempo_bpm=tempo_bpm,
        metre=metre,
        attributes=attributes,
        families=reading.classes_above("families", FAMILY_THRESHOLD),
        absent=absent,
    )


def shown_conditions(
    conditioning: PromptConditioning, context: AudioConditions, captions: bool
) -> dict[str, str]:
    """The conditioning in words, by attribute; with audio context the tempo only where stated. Of a
    model that reads captions the words alone."""
    shown = {"text": conditioning.words} if captions else conditioning.shown()
    if context.melody is None and context.beginning is None:
        return shown
    if conditioning.reading.stated.tempo_bpm is None:
        shown.pop("tempo", None)
    if context.melody is not None:
        shown["tune"] = "followed"
    if context.beginning is not None:
        shown["continues"] = f"{context.beginning.seconds:.1f} s"
    return shown


def understanding_of_prompt(
    prompt: Prompt, conditioning: PromptConditioning, shown: Mapping[str, str]
) -> Understanding:
    """What of a prompt was understood.

    Args:
        prompt: The prompt.
        conditioning: What was made of it.
        shown: What the piece was conditioned on, in words, by attribute; "text" of a model that
            reads the words alone.
    """
    if "text" in shown:
        return read_by_another_encoder(prompt.words, shown)
    said = read_settings(prompt.words)
    facts = conditioning.reading.stated
    values = {"tempo": facts.tempo_bpm, "tonality": facts.tonality, "metre": facts.metre}
    stated = {name for name, value in values.items() if value is not None and name in shown}
    shown = {name: shown[name] for name in shown if name in CONDITION_ATTRIBUTES}
    named = [one for one in said.families if one in conditioning.families]
    others = [one for one in conditioning.families if one not in named]
    for name, families in (("instruments", named), ("further instruments", others)):
        if families:
            shown[name] = ", ".join(_with_names(family, prompt.words) for family in families)
    if named:
        stated.add("instruments")
    used = Used(
        shown=shown,
        stated=frozenset(stated),
        tempo_bpm=conditioning.tempo_bpm,
        tonality=shown.get("tonality"),
        attributes={name: value for name, value in shown.items() if name in CONDITION_ATTRIBUTES},
        moods=conditioning.reading.classes_above("moods", MOOD_THRESHOLD),
        plays=lambda one: any(family in conditioning.families for family in one.families),
        excluded=tuple(dict.fromkeys([*said.absent_names, *prompt.without])),
    )
    return understand(prompt.words, said, used)


def _with_names(family: str, words: str) -> str:
    """A family and what a text calls it, e.g. "strings (cello)"."""
    names = dict.fromkeys(
        one.name
        for one in named_instruments(words)
        if family in one.families and not one.ruled_out and one.name not in (family, family + "s")
    )
    return f"{family} ({', '.join(names)})" if names else family


def absent_families(prompt: Prompt | ScorePrompt) -> tuple[str, ...]:
    """Families that do not play, by the words of a prompt and by its list of exclusions.

    A family that the words request by another of its instruments ("clarinet, no saxophone") is not
    among them, unless the list excludes it.

    Raises:
        MelismaError: A name in the list is unknown.
    """
    said = read_settings(prompt.words)
    listed = [one for families in families_of_names(prompt.without).values() for one in families]
    requested = [one for one in said.families if one not in listed]
    excluded = dict.fromkeys([*said.absent_families, *listed])
    if said.only and requested:
        excluded |= dict.fromkeys(one for one in FAMILIES if one not in requested)
    return tuple(excluded)


def sampled_tempo_bpm(reading: AttributePrediction, generator: torch.Generator) -> float:
    """Samples a tempo in bpm from the predicted distribution, squared to favour likely tempi."""
    block = torch.from_numpy(reading.row[BLOCKS["tempo"]].astype(np.float64)) ** 2
    pick = int(torch.multinomial(block / block.sum(), 1, generator=generator))
    return float(ATTRIBUTES[0].classes[pick])


def rhythm_of(tempo_bpm: float, metre: str, frames: int) -> Tensor:
    """Beat and bar phases of a constant tempo that begins on a downbeat.

    Args:
        tempo_bpm: Felt beats per minute.
        metre: One of `FELT_BEATS`.
        frames: Number of token frames.

    Returns:
        Phases at the middle of each frame, 0 to 1, float32 [frame, 2].
    """
    seconds = (torch.arange(frames, dtype=torch.float64, device="cpu") + 0.5) / FRAME_RATE_HZ
    beats = seconds * tempo_bpm / 60.0
    return torch.stack([beats % 1.0, (beats / FELT_BEATS[metre]) % 1.0], dim=-1).float()


def conditions_of(conditionings: list[PromptConditioning], frames: int) -> Conditioning:
    """The conditioning of a batch of pieces of one length.

    Args:
        conditionings: Of each piece.
        frames: Length of all.
    """
    batch = len(conditionings)
    attributes = torch.zeros(batch, len(CONDITION_ATTRIBUTES), dtype=torch.long, device="cpu")
    stated = torch.zeros(batch, len(CONDITION_ATTRIBUTES), dtype=torch.bool, device="cpu")
    for i, one in enumerate(conditionings):
        for column, name in enumerate(CONDITION_ATTRIBUTES):
            if name in one.attributes:
                attributes[i, column], stated[i, column] = one.attributes[name], True
    families = [[float(family in one.families) for family in FAMILIES] for one in conditionings]
    named = [bool(one.families) for one in conditionings]
    rhythm = [rhythm_of(one.tempo_bpm, one.metre, frames) for one in conditionings]
    return Conditioning(
        batch=batch,
        length=frames,
        style=Condition.full(
            torch.from_numpy(np.stack([one.style for one in conditionings])).float()
        ),
        attributes=Condition(values=attributes, present=stated),
        families=Condition(
            values=torch.tensor(families, dtype=torch.float32, device="cpu"),
            present=torch.tensor(named, dtype=torch.bool, device="cpu"),
        ),
        rhythm=Condition.full(torch.stack(rhythm), 3),
    )
