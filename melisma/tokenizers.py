"""The frozen ears together: everything that the tongue's corpus and a finished piece are heard
with.

Enters: sound at 24 kHz. Leaves: its tokens and conditions, or its place in the joint space.
Style and attributes are what the *music* tower hears in windows of 10 s, not what captions say
(MusicLM, 2301.11325, section 3.3): at inference the text tower speaks in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melisma.codec import AcousticCodec
from melisma.files.checkpoint import expect_fingerprints
from melisma.joint import Joint, summarise
from melisma.joint.attributes import BLOCKS
from melisma.nn.precision import AUTO
from melisma.semantic import SemanticTokenizer
from melisma.semantic.model import LOWEST_TOP_PITCH
from melisma.semantic.tokenizer import EncoderStates
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ

WINDOW_SECONDS = 10
WINDOW_HOP_SECONDS = 5
"""The joint embedding hears windows of 10 s; they overlap by half."""
TRUNK_POOL_FRAMES = 10
"""Frames of hidden state that are averaged into one step for the music tower."""
CONDITION_ATTRIBUTES = (
    "tempo", "tonality", "metre", "lead", "style", "density", "dynamics", "register",
)  # fmt: skip
"""Attributes that condition the language model, in the order of its tables."""
SURE = 0.35
"""An attribute heard with less probability is left absent (chosen; chance is .02 to .33)."""


def expect_tokenizers(
    folder: Path, facts: Mapping[str, object], fingerprints: Mapping[str, str]
) -> None:
    """`ValueError` where a row of a folder, of these facts, has tokens of other ears than are
    present; rows of before 0.5 do not say whose they are."""
    made = facts.get("ears")
    for name, fingerprint in made.items() if isinstance(made, dict) else ():
        if fingerprints.get(name, fingerprint) != fingerprint:
            raise ValueError(
                f"{folder} holds tokens of the {name} {fingerprint}, but the {name} here is "
                f"{fingerprints[name]}: make them again with `melisma prepare --tokens`"
            )


@dataclass(frozen=True, kw_only=True)
class TokenizerPaths:
    """Where the frozen ears lie."""

    codec: Path
    semantic: Path
    joint: Path

    @classmethod
    def of(cls, folder: Path) -> TokenizerPaths:
        """Where they lie in a model's folder."""
        return cls(
            codec=folder / "codec.safetensors",
            semantic=folder / "semantic.safetensors",
            joint=folder / "joint.safetensors",
        )


def read_towers(
    paths: TokenizerPaths, device: str = "cpu", *, precision: str = AUTO
) -> tuple[SemanticTokenizer, Joint]:
    """What hears meaning, without the codec; `ValueError` where the joint embedding learned from
    another encoder."""
    semantic = SemanticTokenizer.read(paths.semantic, device, precision=precision)
    joint = Joint.read(paths.joint)
    if joint.semantic_fingerprint:
        expect_fingerprints(
            paths.joint,
            {"semantic": joint.semantic_fingerprint},
            {"semantic": semantic.fingerprint},
        )
    return semantic, joint


class AudioTokenizers:
    """Codec, semantic tokenizer and joint embedding together: everything that hears."""

    def __init__(self, codec: AcousticCodec, semantic: SemanticTokenizer, joint: Joint) -> None:
        self.codec, self.semantic, self.joint = codec, semantic, joint

    @classmethod
    def read(
        cls, paths: TokenizerPaths, device: str = "cpu", *, precision: str = AUTO
    ) -> AudioTokenizers:
        """Loads all three, to compute in a `precision` of `COMPUTE_PRECISIONS`; `ValueError` where
        the joint embedding learned from another encoder."""
        codec = AcousticCodec.read(paths.codec, device, precision=precision)
        return cls(codec, *read_towers(paths, device, precision=precision))

    @property
    def fingerprints(self) -> dict[str, str]:
        """What the tokens of a corpus depend on."""
        return {
            "codec": self.codec.fingerprint,
            "semantic": self.semantic.fingerprint,
            "joint": self.joint.fingerprint,
        }

    @torch.no_grad()
    def encode(self, sound: Tensor) -> list[dict[str, np.ndarray]]:
        """Equally long sounds float32 [batch, sample] -> arrays of each, without `rhythm`."""
        acoustic = self.codec.encode_sound(sound).cpu().numpy().astype(np.uint16)
        heard = self.semantic.encode_states(sound)
        semantic = heard.tokens.cpu().numpy().astype(np.uint16)
        melody = _lead(heard)
        vectors, logits = self.windows(sound, heard)
        rows = []
        for i in range(len(sound)):
            rows.append(
                {
                    "acoustic": acoustic[i],
                    "semantic": semantic[i],
                    "melody": melody[i],
                    "style": self.joint.quantise(vectors[i]).astype(np.uint8),
                    "attributes": np.stack([predicted_attributes(row) for row in logits[i]]),
                    "families": (logits[i][:, BLOCKS["families"]] >= 0.5).astype(np.uint8),
                }
            )
        return rows

    @torch.no_grad()
    def lead_of(self, sound: Tensor) -> np.ndarray:
        """The leading line of sounds float32 [batch, sample] of whole frames, uint8 [batch, frame]:
        0 no note, pitch class + 1."""
        parts = sound.split(20 * SAMPLE_RATE_HZ, dim=1)
        return np.concatenate([_lead(self.semantic.encode_states(part)) for part in parts], axis=1)

    def windows_of(self, sound: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Sound float32 [batch, sample] of any length -> (joint vectors [batch, window, 128],
        attribute rows [batch, window, 150])."""
        longest = 20 * SAMPLE_RATE_HZ
        parts = [
            self.windows(part, self.semantic.encode_states(part))
            for part in sound.split(longest, dim=1)
            if part.shape[1] >= WINDOW_SECONDS * SAMPLE_RATE_HZ or part.shape[1] == sound.shape[1]
        ]
        return (
            np.concatenate([vectors for vectors, _ in parts], axis=1),
            np.concatenate([rows for _, rows in parts], axis=1),
        )

    def windows(self, sound: Tensor, heard: EncoderStates) -> tuple[np.ndarray, np.ndarray]:
        """(joint vectors [batch, window, 128], attribute rows [batch, window, 150])."""
        starts = window_starts(sound.shape[1])
        vectors, rows = [], []
        for start in starts:
            stop = start + WINDOW_SECONDS * SAMPLE_RATE_HZ
            summary = summarise(sound[:, start:stop]).numpy()
            first, last = (place * FRAME_RATE_HZ // SAMPLE_RATE_HZ for place in (start, stop))
            trunk = trunk_states(heard, first, last)
            vectors.append(self.joint.embed_music(summary, trunk))
            rows.append([r.row for r in self.joint.predict_attributes(summary, trunk)])
        return np.stack(vectors, axis=1), np.stack(rows, axis=1)


def window_starts(samples: int) -> list[int]:
    """First samples of the 10 s windows that fit; one at 0 where the sound is no longer."""
    hop, length = WINDOW_HOP_SECONDS * SAMPLE_RATE_HZ, WINDOW_SECONDS * SAMPLE_RATE_HZ
    return list(range(0, max(samples - length, 0) + 1, hop))


def trunk_states(heard: EncoderStates, first: int, last: int) -> np.ndarray:
    """States of frames [first, last), averaged over ten: float32 [batch, step, 2 * width]."""
    both = torch.cat([heard.middle[:, first:last], heard.last[:, first:last]], dim=-1)
    batch, frames, width = both.shape
    steps = both[:, : frames - frames % TRUNK_POOL_FRAMES]
    pooled = steps.reshape(batch, -1, TRUNK_POOL_FRAMES, width).mean(dim=2)
    return pooled.cpu().numpy()


def predicted_attributes(row: np.ndarray) -> np.ndarray:
    """A row of probabilities -> uint8 [attribute]: the class heard, a table's size where unsure."""
    out = []
    for name in CONDITION_ATTRIBUTES:
        block = row[BLOCKS[name]]
        peak = int(block.argmax())
        near = block[max(peak - 1, 0) : peak + 2].sum() if name == "tempo" else block[peak]
        out.append(peak if near >= SURE else len(block))
    return np.array(out, dtype=np.uint8)


def _lead(heard: EncoderStates) -> np.ndarray:
    """Pitch classes of the top line, uint8 [batch, frame]: 0 no note, pitch class + 1."""
    top = heard.heads["top"].argmax(-1).cpu().numpy()
    return np.where(top > 0, (top - 1 + LOWEST_TOP_PITCH) % 12 + 1, 0).astype(np.uint8)
