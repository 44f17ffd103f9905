"""Text and music in one space, as the rest of the program uses it: one object, read from one file.

Enters: words, or what `summary.py` and the semantic encoder made of sound. Leaves: unit vectors of
the joint space, their few quantised words, and readings of musical attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from melisma.files.checkpoint import Checkpoint, fingerprint_of, read_checkpoint, write_checkpoint
from melisma.joint.attributes import AttributeReading, probabilities
from melisma.joint.music_tower import MusicReading, MusicTower, MusicTowerSettings
from melisma.joint.quantizer import VectorQuantizer
from melisma.joint.settings_words import read_settings
from melisma.joint.text_tower import JOINT_WIDTH, TextReading, TextTower, TextTowerSettings
from melisma.joint.tokenizer import encode_words, pad_tokens
from melisma.values import Facts

KIND = "joint"
BATCH = 256
"""Windows or sentences embedded at a time (bounds memory)."""


class Joint:
    """Both towers, the tokenizer and the quantiser, frozen."""

    def __init__(
        self, text: TextTower, music: MusicTower, quantiser: VectorQuantizer, tokenizer: Tokenizer
    ) -> None:
        self.text = text.eval()
        self.music = music.eval()
        self.quantiser = quantiser.eval()
        self.tokenizer = tokenizer
        self.bank = np.zeros((0, JOINT_WIDTH), np.float32)
        """Unit vectors of music of the corpus, float32 [clip, 128]; see `imagine_music`."""
        self.semantic_fingerprint: str | None = None
        """The semantic encoder whose hidden states the music tower hears."""

    @torch.no_grad()
    def _read_text(self, sentences: Sequence[str]) -> TextReading:
        """One reading of all sentences, in batches of similar length."""
        encoded = encode_words(self.tokenizer, sentences)
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        parts = []
        for start in range(0, len(order), BATCH):
            tokens, present = pad_tokens([encoded[i] for i in order[start : start + BATCH]])
            parts.append(self.text(tokens, present))
        back = torch.tensor(order).argsort()
        return TextReading(
            vector=torch.cat([p.vector for p in parts])[back],
            imitation=torch.cat([p.imitation for p in parts])[back],
            logits=torch.cat([p.logits for p in parts])[back],
        )

    @torch.no_grad()
    def _read_music(self, summary: np.ndarray, trunk: np.ndarray | None) -> MusicReading:
        parts = []
        for start in range(0, len(summary), BATCH):
            rows = slice(start, start + BATCH)
            steps = None if trunk is None else torch.from_numpy(np.asarray(trunk[rows])).float()
            heard = torch.from_numpy(np.asarray(summary[rows])).float()
            parts.append(self.music(heard, steps))
        return MusicReading(
            vector=torch.cat([p.vector for p in parts]), logits=torch.cat([p.logits for p in parts])
        )

    def embed_text(self, sentences: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [sentence, 128]."""
        return self._read_text(sentences).vector.numpy()

    @torch.no_grad()
    def read_words(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """What the text tower makes of every word piece, for models that attend to a text: (float32
        [sentence, token, width] of mean square 1, int64 [sentence] tokens of each; 0 for an empty
        one)."""
        tokens, present = pad_tokens(encode_words(self.tokenizer, sentences))
        states = self.text.states(tokens, present)
        lengths = present.sum(dim=1) * torch.tensor([bool(s.strip()) for s in sentences])
        return states, lengths

    def embed_music(self, summary: np.ndarray, trunk: np.ndarray | None = None) -> np.ndarray:
        """summary [window, 420], trunk [window, 25, width] -> unit vectors [window, 128]."""
        return self._read_music(summary, trunk).vector.numpy()

    def embed_piece(self, summary: np.ndarray, trunk: np.ndarray | None = None) -> np.ndarray:
        """Windows of one piece -> its unit vector float32 [128]: the windows' mean, scaled."""
        mean = self.embed_music(summary, trunk).mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)

    def imagine_music(self, words: np.ndarray, nearest: int = 8) -> np.ndarray:
        """Vectors of words [batch, 128] -> vectors such as music has, of the same shape.

        Even for a perfect pair the vectors of words and of sound lie apart (the modality gap:
        Liang et al., 2203.02053). Here the words are replaced by the mean of the corpus's vectors
        nearest to them; without a bank they stay what they are.
        """
        if len(self.bank) == 0:
            return words
        scores = words @ self.bank.T
        count = min(nearest, len(self.bank))
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        mean = self.bank[found].mean(axis=1)
        return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)

    def read_attributes(self, sentences: Sequence[str]) -> list[AttributeReading]:
        """What the text tower alone reads in each sentence."""
        return _readings(self._read_text(sentences).logits)

    def read_prompt(self, words: str) -> AttributeReading:
        """What words ask for: the tower's reading, overridden by what they state exactly."""
        said = read_settings(words)
        stated = Facts(
            tempo_bpm=said.tempo_bpm,
            tonality=said.tonality,
            metre=said.metre,
            families=said.families,
        )
        return self.read_attributes([words])[0].overridden(stated, said.absent_families)

    def predict_attributes(
        self, summary: np.ndarray, trunk: np.ndarray | None = None
    ) -> list[AttributeReading]:
        """What the music tower hears in each window."""
        return _readings(self._read_music(summary, trunk).logits)

    def quantise(self, vectors: np.ndarray) -> np.ndarray:
        """Unit vectors [batch, 128] -> tokens int64 [batch, 6]."""
        return self.quantiser.encode(torch.from_numpy(np.asarray(vectors)).float()).numpy()

    def vectors_of(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens [batch, level], any number of levels from the first on -> unit vectors."""
        return self.quantiser.decode(torch.from_numpy(np.asarray(tokens))).numpy()

    @property
    def fingerprint(self) -> str:
        """Changes with anything that decides tokens: the music tower and the quantiser."""
        settings = dataclasses.asdict(self.music.settings)
        return fingerprint_of(KIND, settings, _state(music=self.music, quantiser=self.quantiser))

    @property
    def words_fingerprint(self) -> str:
        """Changes with anything that decides the vectors of words."""
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
        prints = {"semantic": self.semantic_fingerprint} if self.semantic_fingerprint else {}
        checkpoint = Checkpoint(kind=KIND, settings=settings, tensors=tensors, fingerprints=prints)
        write_checkpoint(path, checkpoint, precision=precision)

    @classmethod
    def read(cls, path: Path) -> Joint:
        """Reads what `write` wrote. `ValueError` where the file is not a whole joint embedding."""
        checkpoint = read_checkpoint(path, kind=KIND)
        try:
            settings = checkpoint.settings
            text = TextTower(TextTowerSettings(**settings["text"]))
            music = MusicTower(MusicTowerSettings(**settings["music"]))
            quantiser = VectorQuantizer(**settings["quantiser"])
            for name, module in (("text", text), ("music", music), ("quantiser", quantiser)):
                _fill(module, name, checkpoint.tensors)
            words = checkpoint.tensors["tokenizer"].numpy().tobytes().decode("utf-8")
            tokenizer = Tokenizer.from_str(words)
            bank = checkpoint.tensors["bank"].float().numpy()
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"{path} is no joint embedding of this version: fetch or train it again"
            ) from error
        joint = cls(text, music, quantiser, tokenizer)
        joint.bank = bank
        joint.semantic_fingerprint = checkpoint.fingerprints.get("semantic")
        return joint


def _readings(logits: Tensor) -> list[AttributeReading]:
    return [AttributeReading(row=row) for row in probabilities(logits).numpy()]


def _state(**modules: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def _fill(module: nn.Module, name: str, tensors: dict[str, Tensor]) -> None:
    """Loads the tensors named `name.*`; `RuntimeError` where they do not fit."""
    start = f"{name}."
    module.load_state_dict(
        {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}
    )
