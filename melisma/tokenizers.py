"""The frozen audio tokenizers together: codec, semantic tokenizer and joint embedding.

Input: audio at 24 kHz. Output: its tokens and conditioning for the language models' corpus, or its
embeddings in the joint space. Style and attributes are predictions of the *music* tower in windows
of 10 s, not taken from captions (MusicLM, 2301.11325, section 3.3): at inference the text tower
replaces it.
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
from melisma.files.legacy_names import TOKENIZERS_KEY
from melisma.joint import JointEmbedding, summarise
from melisma.joint.attributes import BLOCKS
from melisma.nn.precision import AUTO
from melisma.semantic import SemanticTokenizer
from melisma.semantic.model import LOWEST_TOP_PITCH
from melisma.semantic.tokenizer import EncoderStates
from melisma.values.attributes import CONDITION_ATTRIBUTES
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ

WINDOW_SECONDS = 10
WINDOW_HOP_SECONDS = 5
"""Window length and hop of the joint embedding."""
EMBEDDED_SECONDS = 20
"""Longer audio is embedded in parts of this length."""
TRUNK_POOL_FRAMES = 10
"""Frames of hidden states that are averaged into one step for the music tower."""
MIN_PROBABILITY = 0.35
"""An attribute predicted with a lower probability counts as absent (chosen; chance: .02 to .33)."""


def check_tokenizer_fingerprints(
    folder: Path, facts: Mapping[str, object], fingerprints: Mapping[str, str]
) -> None:
    """Checks that token shards were encoded with the present tokenizers.

    Args:
        folder: Folder of the shards, for the message.
        facts: Facts of one row; rows written before 0.5 do not record their tokenizers and pass.
        fingerprints: Fingerprint of each present tokenizer, by name.

    Raises:
        MelismaError: The row was encoded with another tokenizer.
    """
    recorded = facts.get(TOKENIZERS_KEY)
    for name, fingerprint in recorded.items() if isinstance(recorded, dict) else ():
        if fingerprints.get(name, fingerprint) != fingerprint:
            raise MelismaError(
                f"{folder} holds tokens of the {name} {fingerprint}, but the {name} here is "
                f"{fingerprints[name]}: make them again with `melisma prepare --tokens`"
            )


@dataclass(frozen=True, kw_only=True)
class TokenizerPaths:
    """Paths of the checkpoints of the frozen tokenizers."""

    codec: Path
    semantic: Path
    joint: Path

    @classmethod
    def of(cls, folder: Path) -> TokenizerPaths:
        """The default paths in a model's folder."""
        return cls(
            codec=folder / "codec.safetensors",
            semantic=folder / "semantic.safetensors",
            joint=folder / "joint.safetensors",
        )


def read_towers(
    paths: TokenizerPaths, device: str = "cpu", *, precision: str = AUTO
) -> tuple[SemanticTokenizer, JointEmbedding]:
    """Loads the semantic tokenizer and the joint embedding, without the codec.

    Args:
        paths: Paths of the checkpoints.
        device: Device of the semantic encoder.
        precision: One of `COMPUTE_PRECISIONS`.

    Raises:
        MelismaError: The joint embedding was trained on the states of another semantic encoder.
    """
    semantic = SemanticTokenizer.read(paths.semantic, device, precision=precision)
    joint = JointEmbedding.read(paths.joint)
    if joint.semantic_fingerprint:
        expect_fingerprints(
            paths.joint,
            {"semantic": joint.semantic_fingerprint},
            {"semantic": semantic.fingerprint},
        )
    return semantic, joint


class AudioTokenizers:
    """The frozen audio tokenizers: codec, semantic tokenizer and joint embedding."""

    def __init__(
        self, codec: AcousticCodec, semantic: SemanticTokenizer, joint: JointEmbedding
    ) -> None:
        self.codec, self.semantic, self.joint = codec, semantic, joint

    @classmethod
    def read(
        cls, paths: TokenizerPaths, device: str = "cpu", *, precision: str = AUTO
    ) -> AudioTokenizers:
        """Loads all three tokenizers.

        Args:
            paths: Paths of the checkpoints.
            device: Device of the codec and the semantic encoder.
            precision: One of `COMPUTE_PRECISIONS`.

        Raises:
            MelismaError: The joint embedding was trained on the states of another semantic encoder.
        """
        codec = AcousticCodec.read(paths.codec, device, precision=precision)
        return cls(codec, *read_towers(paths, device, precision=precision))

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each tokenizer, by name; the tokens of a corpus depend on all of them."""
        return {
            "codec": self.codec.fingerprint,
            "semantic": self.semantic.fingerprint,
            "joint": self.joint.fingerprint,
        }

    @torch.no_grad()
    def encode(self, sound: Tensor) -> list[dict[str, np.ndarray]]:
        """Tokens and conditioning of a batch, as the rows of token shards hold them.

        Args:
            sound: Mono audio at 24 kHz, float32 [batch, sample]; at most 20 s, of whole frames.

        Returns:
            For each item the arrays "acoustic" uint16 [level, frame], "semantic" uint16
            [level, frame], "melody" uint8 [frame], "style" uint8 [window, level], "attributes"
            uint8 [window, attribute] and "families" uint8 [window, family]; no "rhythm".
        """
        acoustic = self.codec.encode_sound(sound).cpu().numpy().astype(np.uint16)
        states = self.semantic.encode_states(sound)
        semantic = states.tokens.cpu().numpy().astype(np.uint16)
        melody = _lead(states)
        vectors, logits = self.embed_encoded(sound, states)
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
    def encode_melody(self, sound: Tensor) -> np.ndarray:
        """The melody conditioning of audio of any length.

        Args:
            sound: Mono audio at 24 kHz, float32 [batch, sample], of whole frames.

        Returns:
            uint8 [batch, frame]: 0 for no note, otherwise the pitch class + 1.
        """
        parts = sound.split(20 * SAMPLE_RATE_HZ, dim=1)
        return np.concatenate([_lead(self.semantic.encode_states(part)) for part in parts], axis=1)

    def embed_windows(self, sound: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Joint embeddings and attributes of the windows of audio of any length.

        Args:
            sound: Mono audio at 24 kHz, float32 [batch, sample].

        Returns:
            (joint vectors [batch, window, 128], attribute probabilities [batch, window, 150]).
        """
        longest = EMBEDDED_SECONDS * SAMPLE_RATE_HZ
        parts = [
            self.embed_encoded(part, self.semantic.encode_states(part))
            for part in sound.split(longest, dim=1)
            if part.shape[1] >= WINDOW_SECONDS * SAMPLE_RATE_HZ or part.shape[1] == sound.shape[1]
        ]
        return (
            np.concatenate([vectors for vectors, _ in parts], axis=1),
            np.concatenate([rows for _, rows in parts], axis=1),
        )

    def embed_encoded(self, sound: Tensor, states: EncoderStates) -> tuple[np.ndarray, np.ndarray]:
        """As `embed_windows`, for audio whose semantic states are computed already."""
        starts = window_starts(sound.shape[1])
        vectors, rows = [], []
        for start in starts:
            stop = start + WINDOW_SECONDS * SAMPLE_RATE_HZ
            summary = summarise(sound[:, start:stop]).numpy()
            first, last = (edge * FRAME_RATE_HZ // SAMPLE_RATE_HZ for edge in (start, stop))
            trunk = pool_trunk_states(states, first, last)
            vectors.append(self.joint.embed_music(summary, trunk))
            rows.append([r.row for r in self.joint.predict_attributes(summary, trunk)])
        return np.stack(vectors, axis=1), np.stack(rows, axis=1)


def window_starts(samples: int) -> list[int]:
    """First sample of every 10 s window that fits; a single window at 0 for shorter audio."""
    hop, length = WINDOW_HOP_SECONDS * SAMPLE_RATE_HZ, WINDOW_SECONDS * SAMPLE_RATE_HZ
    return list(range(0, max(samples - length, 0) + 1, hop))


def pool_trunk_states(states: EncoderStates, first: int, last: int) -> np.ndarray:
    """Middle and last hidden states, averaged over ten frames: the music tower's trunk input.

    Args:
        states: States of the semantic encoder.
        first: First frame.
        last: The frame after the last.

    Returns:
        float32 [batch, step, 2 * width].
    """
    both = torch.cat([states.middle[:, first:last], states.last[:, first:last]], dim=-1)
    batch, frames, width = both.shape
    steps = both[:, : frames - frames % TRUNK_POOL_FRAMES]
    pooled = steps.reshape(batch, -1, TRUNK_POOL_FRAMES, width).mean(dim=2)
    return pooled.cpu().numpy()


def predicted_attributes(row: np.ndarray) -> np.ndarray:
    """Class indices of `CONDITION_ATTRIBUTES` from attribute probabilities.

    Args:
        row: Probabilities [150], see `joint.attributes.BLOCKS`.

    Returns:
        uint8 [attribute]: the likeliest class, or the number of classes (absent) where its
        probability is below `MIN_PROBABILITY`; of the tempo, neighbouring bins count too.
    """
    out = []
    for name in CONDITION_ATTRIBUTES:
        block = row[BLOCKS[name]]
        peak = int(block.argmax())
        near = block[max(peak - 1, 0) : peak + 2].sum() if name == "tempo" else block[peak]
        out.append(peak if near >= MIN_PROBABILITY else len(block))
    return np.array(out, dtype=np.uint8)


def _lead(states: EncoderStates) -> np.ndarray:
    """Pitch classes of the leading line, uint8 [batch, frame]: 0 no note, pitch class + 1."""
    top = states.heads["top"].argmax(-1).cpu().numpy()
    return np.where(top > 0, (top - 1 + LOWEST_TOP_PITCH) % 12 + 1, 0).astype(np.uint8)
