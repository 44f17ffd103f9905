"""From a prompt to the conditions of the language model: the text tower speaks where, in training,
the music tower was heard (MusicLM, 2301.11325, section 3.3)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from melisma.joint import JointEmbedding
from melisma.joint.attributes import ATTRIBUTES, BLOCKS, AttributePrediction
from melisma.lm.conditioning import MELODY_SIZE, Conditioning
from melisma.tokenizers import CONDITION_ATTRIBUTES
from melisma.values import Facts
from melisma.values.attributes import FAMILIES
from melisma.values.prompt import Prompt
from melisma.values.tokens import FRAME_RATE_HZ

STYLE_LEVELS = 2
"""Levels of the style tokens that words speak with: deeper ones name single clips, not words."""
READ = 0.4
"""An attribute that the text tower reads with less probability is left open."""
NAMED = 0.5
"""Families at least so probable count as named."""
FELT_BEATS = {"2/4": 2, "3/4": 3, "4/4": 4, "6/8": 2}
"""Felt beats of a bar."""


@dataclass(frozen=True, kw_only=True)
class PromptConditioning:
    """What one prompt asks of the model."""

    words: str
    vector: np.ndarray
    """The words in the joint space, float32 [128]."""
    style: np.ndarray
    """What of it the style tokens can say, float32 [128]."""
    reading: AttributePrediction
    """Probabilities of every attribute; what is stated exactly is certain."""
    tempo_bpm: float
    metre: str
    attributes: dict[str, int]
    """Class of each condition attribute that is asked for."""
    families: tuple[str, ...]
    """Families named."""

    def shown(self) -> dict[str, str]:
        """In words, for receipts."""
        shown = {"tempo": f"{self.tempo_bpm:.0f} bpm", "metre": self.metre}
        for attribute in ATTRIBUTES:
            if attribute.name in self.attributes and attribute.name not in shown:
                shown[attribute.name] = attribute.classes[self.attributes[attribute.name]]
        if self.families:
            shown["instruments"] = ", ".join(self.families)
        return shown


def condition_on_prompt(
    joint: JointEmbedding, prompt: Prompt, generator: torch.Generator
) -> PromptConditioning:
    """Reads a prompt. A tempo that the words leave open is drawn from what they suggest."""
    exact = Facts(tempo_bpm=prompt.tempo_bpm, tonality=prompt.tonality, metre=prompt.metre)
    reading = joint.read_prompt(prompt.words)
    stated = dataclasses.replace(
        reading.stated,
        **{name: value for name, value in vars(exact).items() if value not in (None, ())},
    )
    reading = reading.overridden(stated)
    tempo_bpm = stated.tempo_bpm or sampled_tempo_bpm(reading, generator)
    metre, sure = reading.best("metre")
    metre = metre if sure >= READ else "4/4"
    attributes = {}
    for attribute in ATTRIBUTES:
        if attribute.name in CONDITION_ATTRIBUTES:
            name, probability = reading.best(attribute.name)
            if probability >= READ:
                attributes[attribute.name] = attribute.classes.index(name)
    # The tempo slot always agrees with the rhythm that is beaten.
    tempo_row = Facts(tempo_bpm=tempo_bpm)
    attributes["tempo"] = int(reading.overridden(tempo_row).row[BLOCKS["tempo"]].argmax())
    attributes["metre"] = ATTRIBUTES[2].classes.index(metre)
    vector = joint.embed_text([prompt.words])
    style = joint.dequantise(joint.quantise(joint.nearest_music(vector))[:, :STYLE_LEVELS])
    return PromptConditioning(
        words=prompt.words,
        vector=vector[0],
        style=style[0],
        reading=reading,
        tempo_bpm=tempo_bpm,
        metre=metre,
        attributes=attributes,
        families=reading.classes_above("families", NAMED),
    )


def sampled_tempo_bpm(reading: AttributePrediction, generator: torch.Generator) -> float:
    """A tempo near the likeliest bin of what the words suggest."""
    block = torch.from_numpy(reading.row[BLOCKS["tempo"]].astype(np.float64)) ** 2
    pick = int(torch.multinomial(block / block.sum(), 1, generator=generator))
    return float(ATTRIBUTES[0].classes[pick])


def rhythm_of(tempo_bpm: float, metre: str, frames: int) -> Tensor:
    """Beat and bar phases at mid-frame of a steady tempo from a downbeat on, [frame, 2]."""
    seconds = (torch.arange(frames, dtype=torch.float64) + 0.5) / FRAME_RATE_HZ
    beats = seconds * tempo_bpm / 60.0
    return torch.stack([beats % 1.0, (beats / FELT_BEATS[metre]) % 1.0], dim=-1).float()


def conditions_of(asked: list[PromptConditioning], frames: int) -> Conditioning:
    """Conditions of a batch of pieces of one length."""
    conditions = Conditioning.absent(len(asked), frames)
    attributes = conditions.attributes.clone()
    families = conditions.families.clone()
    for i, one in enumerate(asked):
        for place, name in enumerate(CONDITION_ATTRIBUTES):
            if name in one.attributes:
                attributes[i, place] = one.attributes[name]
        if one.families:
            families[i] = torch.tensor([float(family in one.families) for family in FAMILIES])
    return dataclasses.replace(
        conditions,
        style=torch.from_numpy(np.stack([one.style for one in asked])).float(),
        attributes=attributes,
        families=families,
        rhythm=torch.stack([rhythm_of(one.tempo_bpm, one.metre, frames) for one in asked]),
        melody=torch.full((len(asked), frames), MELODY_SIZE),
    )
