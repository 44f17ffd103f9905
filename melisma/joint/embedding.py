"""Joint embedding of text and music: both towers, tokenizer and quantizer, read from one file.

Inputs: text, or summary (`summary.py`) and semantic states of audio. Outputs: unit vectors of the
joint space, their quantized tokens, and predictions of musical attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from melisma.files.checkpoint import (
    Checkpoint,
    build_model,
    fingerprint_of,
    read_checkpoint,
    tensor_of,
    write_checkpoint,
)
from melisma.joint.attributes import AttributePrediction, probabilities
from melisma.joint.music_tower import MusicTower, MusicTowerOutput, MusicTowerSettings
from melisma.joint.quantizer import VectorQuantizer, VectorQuantizerSettings
from melisma.joint.settings_words import read_settings
from melisma.joint.text_tower import JOINT_WIDTH, TextTower, TextTowerOutput, TextTowerSettings
from melisma.joint.tokenizer import encode_words, pad_tokens, read_tokenizer
from melisma.values import Facts
from melisma.values.attributes import FAMILIES

KIND = "joint"
NO_WORDS = "music"
"""Stands for the text of a prompt that only excludes something ("no drums")."""
BATCH = 256
"""Batch size of windows and sentences (bounds memory)."""


class JointEmbedding:
    """Both towers, the text tokenizer and the quantizer, frozen."""

    def __init__(
        self, text: TextTower, music: MusicTower, quantiser: VectorQuantizer, tokenizer: Tokenizer
    ) -> None:
        self.text = text.eval()
        self.music = music.eval()
        self.quantiser = quantiser.eval()
        self.tokenizer = tokenizer
        self.bank = np.zeros((0, JOINT_WIDTH), np.float32)
        """Music vectors of the corpus, float32 unit vectors [clip, 128]; see `nearest_music`."""
        self.semantic_fingerprint: str | None = None
        """Fingerprint of the semantic encoder on whose states the music tower was trained."""

    @torch.no_grad()
    def _read_text(self, sentences: Sequence[str]) -> TextTowerOutput:
        """The text tower's output for all sentences, in batches of similar length."""
        encoded = encode_words(self.tokenizer, sentences)
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        parts = []
        for start in range(0, len(order), BATCH):
            tokens, present = pad_tokens([encoded[i] for i in order[start : start + BATCH]])
            parts.append(self.text(tokens, present))
        inverse = torch.tensor(order, dtype=torch.long, device="cpu").argsort()
        return TextTowerOutput(
            vector=torch.cat([p.vector for p in parts])[inverse],
            imitation=torch.cat([p.imitation for p in parts])[inverse],
            logits=torch.cat([p.logits for p in parts])[inverse],
        )

    @torch.no_grad()
    def _read_music(self, summary: np.ndarray, trunk: np.ndarray | None) -> MusicTowerOutput:
        parts = []
        for start in range(0, len(summary), BATCH):
            rows = slice(start, start + BATCH)
            steps = None if trunk is None else torch.from_numpy(np.asarray(trunk[rows])).float()
            batch = torch.from_numpy(np.asarray(summary[rows])).float()
            parts.append(self.music(batch, steps))
        return MusicTowerOutput(
            vector=torch.cat([p.vector for p in parts]), logits=torch.cat([p.logits for p in parts])
        )

    def embed_text(self, sentences: Sequence[str]) -> np.ndarray:
        """Embeds sentences; unit vectors float32 [sentence, 128]."""
        return self._read_text(sentences).vector.numpy()

    @torch.no_grad()
    def text_states(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hidden states of the text tower, for models with cross-attention to text.

        Returns:
            (states float32 [sentence, token, width] of mean square 1, number of tokens of each
            sentence int64 [sentence], 0 for an empty one).
        """
        tokens, present = pad_tokens(encode_words(self.tokenizer, sentences))
        states = self.text.states(tokens, present)
        lengths = present.sum(dim=1) * torch.tensor(
            [bool(s.strip()) for s in sentences], dtype=torch.bool, device="cpu"
        )
        return states, lengths

    def embed_music(self, summary: np.ndarray, trunk: np.ndarray | None = None) -> np.ndarray:
        """Embeds windows of audio.

        Args:
            summary: float32 [window, 420], see `summarise`.
            trunk: Pooled semantic states [window, 25, width]; None for a tower without trunk.

        Returns:
            Unit vectors float32 [window, 128].
        """
        return self._read_music(summary, trunk).vector.numpy()

    def embed_piece(self, summary: np.ndarray, trunk: np.ndarray | None = None) -> np.ndarray:
        """Embeds all windows of one piece; their normalized mean, float32 [128]."""
        mean = self.embed_music(summary, trunk).mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)

    def nearest_music(self, words: np.ndarray, nearest: int = 8) -> np.ndarray:
        """Maps text vectors to typical music vectors, to close the modality gap.

        Text and music vectors of matching pairs occupy different regions of the space (the modality
        gap: Liang et al., 2203.02053). Each text vector is replaced by the mean of its nearest
        neighbours in `bank`; without a bank it is returned unchanged.

        Args:
            words: Text vectors [batch, 128].
            nearest: Number of neighbours.

        Returns:
            Unit vectors [batch, 128].
        """
        if len(self.bank) == 0:
            return words
        scores = words @ self.bank.T
        count = min(nearest, len(self.bank))
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        mean = self.bank[found].mean(axis=1)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)

    def read_attributes(self, sentences: Sequence[str]) -> list[AttributePrediction]:
        """Predictions of the text tower for each sentence, without parsing exact settings."""
        return _predictions(self._read_text(sentences).logits)

    def read_prompt(self, words: str, absent: Sequence[str] = ()) -> AttributePrediction:
        """Attributes that a prompt requests: the tower's prediction from the text without what it
        excludes, overridden by exact settings that the text states.

        Args:
            words: The text.
            absent: Families that are excluded besides those that the text excludes.
        """
        settings = read_settings(words)
        stated = Facts(
            tempo_bpm=settings.tempo_bpm,
            tonality=settings.tonality,
            metre=settings.metre,
            families=tuple(one for one in settings.families if one not in absent),
        )
        excluded = dict.fromkeys([*settings.absent_families, *absent])
        if settings.only and stated.families:
            excluded |= dict.fromkeys(one for one in FAMILIES if one not in stated.families)
        reading = self.read_attributes([settings.kept or NO_WORDS])[0]
        return reading.avoiding(settings.avoided).overridden(stated, tuple(excluded))

    def predict_attributes(
        self, summary: np.ndarray, trunk: np.ndarray | None = None
    ) -> list[AttributePrediction]:
        """Predictions of the music tower for each window; arguments as `embed_music`."""
        return _predictions(self._read_music(summary, trunk).logits)

    def quantise(self, vectors: np.ndarray) -> np.ndarray:
        """Quantizes unit vectors [batch, 128] to tokens int64 [batch, 6]."""
        return self.quantiser.encode(torch.from_numpy(np.asarray(vectors)).float()).numpy()

    def dequantise(self, tokens: np.ndarray) -> np.ndarray:
        """Decodes tokens [batch, level], any number of leading levels, to unit vectors."""
        return self.quantiser.decode(torch.from_numpy(np.asarray(tokens))).numpy()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of what determines the tokens: the music tower and the quantizer."""
        settings = dataclasses.asdict(self.music.settings)
        return fingerprint_of(KIND, settings, _state(music=self.music, quantiser=self.quantiser))

    @property
    def text_fingerprint(self) -> str:
        """Fingerprint of what determines the text vectors."""
        settings = dataclasses.asdict(self.text.settings)
        return fingerprint_of("words", settings, _state(text=self.text))

    def write(self, path: Path, *, precision: str = "float32") -> None:
        """Writes one checkpoint file; `precision` as in `write_checkpoint`."""
        tensors = _state(text=self.text, music=self.music, quantiser=self.quantiser)
        words = self.tokenizer.to_str().encode("utf-8")
        tensors["tokenizer"] = torch.from_numpy(np.frombuffer(words, dtype=np.uint8).copy())
        tensors["bank"] = torch.from_numpy(self.bank).half()
        levels, entries, width = self.quantiser.codes.shape
        settings = {
            "text": dataclasses.asdict(self.text.settings),
            "music": dataclasses.asdict(self.music.settings),
            "quantiser": {"levels": levels, "entries": entries, "width": width},
        }
        semantic = self.semantic_fingerprint
        checkpoint = Checkpoint(
            kind=KIND,
            settings=settings,
            tensors=tensors,
            fingerprints={"semantic": semantic} if semantic else {},
        )
        write_checkpoint(path, checkpoint, precision=precision)

    @classmethod
    def read(cls, path: Path) -> JointEmbedding:
        """Reads a file written by `write`; `MelismaError` where it is no joint embedding."""
        checkpoint = read_checkpoint(path, kind=KIND)
        text = build_model(checkpoint, TextTowerSettings, TextTower, part="text")
        music = build_model(checkpoint, MusicTowerSettings, MusicTower, part="music")
        quantiser = build_model(
            checkpoint, VectorQuantizerSettings, _make_quantizer, part="quantiser"
        )
        stored = tensor_of(checkpoint, "tokenizer", (None,), torch.uint8)
        tokenizer = read_tokenizer(stored.numpy().tobytes(), text.settings.vocabulary, str(path))
        joint = cls(text, music, quantiser, tokenizer)
        joint.bank = tensor_of(checkpoint, "bank", (None, JOINT_WIDTH)).numpy()
        joint.semantic_fingerprint = checkpoint.fingerprints.get("semantic")
        return joint


def _predictions(logits: Tensor) -> list[AttributePrediction]:
    return [AttributePrediction(row=row) for row in probabilities(logits).numpy()]


def _state(**modules: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def _make_quantizer(settings: VectorQuantizerSettings) -> VectorQuantizer:
    return VectorQuantizer(**dataclasses.asdict(settings))
