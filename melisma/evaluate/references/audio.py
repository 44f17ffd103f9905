"""The reference set: held-out music that outputs are compared with, measured once and kept.

Every piece of it has its words and its facts, and is measured twice: as it is (`raw`), and after
the codec's round trip at the levels that the generator draws (`coded`), because every output
passes the codec, too. The sound itself is not kept. The prompts of the set are the words of its
pieces, so that an output and the true piece for the same words can be compared as a pair, as
MusicCaps is used (MusicLM, 2301.11325, section 5.1).

Enters: clips with facts and words. Leaves: a `Reference`, as a value and as one safetensors file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from melisma.evaluate.measured import Measured, measure_piece
from melisma.evaluate.metrics.adherence import RequestedAttributes, stated_attributes
from melisma.evaluate.models.embeddings import Embedding
from melisma.evaluate.models.judge import Judge
from melisma.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from melisma.values import Facts, Waveform

KIND = "reference"
VERDICTS = "verdicts"
"""Key of the judge's fingerprint; "judge" is the embedding of that name."""
FILE_NAME = "reference.safetensors"
"""Where a model's folder keeps its reference set."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Measured held-out music."""

    name: str
    """What it is, in words."""
    seconds: float
    """Length of a piece."""
    prompts: tuple[str, ...]
    """Words of every piece."""
    groups: tuple[str, ...]
    """The work that each piece is of."""
    facts: tuple[Facts, ...]
    raw: tuple[Measured, ...]
    coded: tuple[Measured, ...]
    fingerprints: Mapping[str, str]
    """Of the judge (`VERDICTS`), of every embedding by its name, and of the codec ("codec")."""
    levels: int
    """Codec levels of `coded`."""
    digest: str
    """Its identity: first 16 hexadecimal digits of the SHA-256 of words, facts and raw embeddings
    as they were measured, whatever part of it is in use."""

    def __len__(self) -> int:
        return len(self.prompts)

    def true(self, *, decoded: bool) -> tuple[Measured, ...]:
        """Its pieces as outputs are: through the codec where those were `decoded` by it."""
        return self.coded if decoded else self.raw

    def requested(self) -> list[RequestedAttributes]:
        """What the words of every piece state of it."""
        return [
            stated_attributes(words, facts)
            for facts, words in zip(self.facts, self.prompts, strict=True)
        ]

    def fit(self, judge: str, embeddings: Mapping[str, str]) -> tuple[Reference | None, list[str]]:
        """What of it was measured by a judge and embeddings of these fingerprints, and sentences
        about what was not; None where nothing is left."""
        if self.fingerprints.get(VERDICTS) != judge:
            return None, [
                "The reference set was measured by another judge, so nothing is compared with it: "
                "make one for this judge with `melisma train reference`, or take its own."
            ]
        fit = [n for n, print_ in embeddings.items() if self.fingerprints.get(n) == print_]
        told = [
            f"The reference set was not measured by the embedding {name}, so it has no Fréchet "
            "distance: give --reference a folder of real sound, which is measured anew."
            for name in embeddings
            if name not in fit
        ]

        def kept(pieces: tuple[Measured, ...]) -> tuple[Measured, ...]:
            return tuple(
                dataclasses.replace(one, windows={n: one.windows[n] for n in fit}) for one in pieces
            )

        return dataclasses.replace(self, raw=kept(self.raw), coded=kept(self.coded)), told

    def first(self, count: int) -> Reference:
        """Its first pieces."""
        return dataclasses.replace(
            self,
            prompts=self.prompts[:count],
            groups=self.groups[:count],
            facts=self.facts[:count],
            raw=self.raw[:count],
            coded=self.coded[:count],
        )


@dataclass(frozen=True, kw_only=True)
class TruePiece:
    """One piece of held-out music."""

    sound: Waveform
    words: str
    facts: Facts
    group: str
    """The work that it is of."""
    onsets_seconds: np.ndarray | None = None
    """Where notes and drums begin, float64 [onset]; None where it is not known."""


def measure_reference(
    name: str,
    pieces: Sequence[TruePiece],
    through_codec: Callable[[Waveform], Waveform],
    judge: Judge,
    embeddings: Sequence[Embedding],
    *,
    codec_fingerprint: str,
    levels: int,
    codec_values: Callable[[TruePiece, Waveform], dict[str, float]] | None = None,
    follow: Callable[[Sequence[TruePiece]], Iterable[TruePiece]] = iter,
) -> Reference:
    """Measures pieces as they are and through the codec; `ValueError` for less than two.

    `codec_values` measures what the codec loses of a piece; its numbers join those of `coded`.
    `follow` hands on the pieces and may show how far it is.
    """
    if len(pieces) < 2:
        raise ValueError(f"a reference set needs two pieces or more, not {len(pieces)}")
    raw: list[Measured] = []
    coded: list[Measured] = []
    for piece in follow(pieces):
        raw.append(measure_piece(piece.sound, judge, embeddings))
        sound = through_codec(piece.sound)
        found = measure_piece(sound, judge, embeddings)
        lost = {} if codec_values is None else codec_values(piece, sound)
        coded.append(dataclasses.replace(found, values={**found.values, **lost}))
    seconds = max(one.sound.seconds for one in pieces)
    return Reference(
        name=name,
        seconds=seconds,
        prompts=tuple(one.words for one in pieces),
        groups=tuple(one.group for one in pieces),
        facts=tuple(one.facts for one in pieces),
        raw=tuple(raw),
        coded=tuple(coded),
        fingerprints={
            VERDICTS: judge.fingerprint,
            "codec": codec_fingerprint,
            **{one.name: one.fingerprint for one in embeddings},
        },
        levels=levels,
        digest=_digest(name, seconds, pieces, raw),
    )


def _digest(name: str, seconds: float, pieces: Sequence[TruePiece], raw: Sequence[Measured]) -> str:
    words = [one.words for one in pieces]
    hashed = hashlib.sha256(json.dumps([name, seconds, *words]).encode())
    for piece, measured in zip(pieces, raw, strict=True):
        hashed.update(json.dumps(dataclasses.asdict(piece.facts), sort_keys=True).encode())
        for embedding in sorted(measured.windows):
            hashed.update(measured.windows[embedding].astype(np.float16).tobytes())
    return hashed.hexdigest()[:16]


def _tensors(part: str, pieces: Sequence[Measured]) -> dict[str, torch.Tensor]:
    """Arrays of all pieces; windows that a piece does not have are nan."""
    out = {
        f"{part}/tags": torch.from_numpy(np.stack([one.tags for one in pieces])),
        f"{part}/vector": torch.from_numpy(np.stack([one.vector for one in pieces])),
    }
    for name in pieces[0].windows:
        out[f"{part}/windows/{name}"] = torch.from_numpy(
            stack_windows([one.windows[name] for one in pieces])
        )
    return out


def stack_windows(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """[window, width] of every piece -> float32 [piece, window, width], nan where one has fewer."""
    most = max(len(windows) for windows in pieces)
    stacked = np.full((len(pieces), most, pieces[0].shape[1]), np.nan, dtype=np.float32)
    for row, windows in zip(stacked, pieces, strict=True):
        row[: len(windows)] = windows
    return stacked


def split_windows(stacked: np.ndarray) -> list[np.ndarray]:
    """The inverse of `stack_windows`."""
    return [rows[~np.isnan(rows).any(axis=1)] for rows in stacked]


def write_reference(path: Path, reference: Reference) -> None:
    """Writes one file (float16), whole or not at all."""
    parts = {"raw": reference.raw, "coded": reference.coded}
    rows = [
        {
            "prompt": words,
            "group": reference.groups[i],
            "facts": dataclasses.asdict(facts),
            **{
                part: {"values": dict(pieces[i].values), "told": dict(pieces[i].told)}
                for part, pieces in parts.items()
            },
        }
        for i, (words, facts) in enumerate(zip(reference.prompts, reference.facts, strict=True))
    ]
    tensors: dict[str, torch.Tensor] = {}
    for part, pieces in parts.items():
        tensors |= _tensors(part, pieces)
    checkpoint = Checkpoint(
        kind=KIND,
        settings={
            "name": reference.name,
            "seconds": reference.seconds,
            "levels": reference.levels,
            "digest": reference.digest,
        },
        tensors=tensors,
        fingerprints=dict(reference.fingerprints),
        notes={"rows": rows},
    )
    write_checkpoint(path, checkpoint, precision="float16")


def read_reference(path: Path) -> Reference:
    """Reads a file of `write_reference`; `ValueError` where it is something else or damaged."""
    checkpoint = read_checkpoint(path, kind=KIND)
    rows: list[dict[str, Any]] = checkpoint.notes["rows"]
    arrays = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
    return Reference(
        name=checkpoint.settings["name"],
        seconds=checkpoint.settings["seconds"],
        levels=checkpoint.settings["levels"],
        prompts=tuple(row["prompt"] for row in rows),
        groups=tuple(row["group"] for row in rows),
        facts=tuple(_facts(row["facts"]) for row in rows),
        raw=_measured("raw", rows, arrays),
        coded=_measured("coded", rows, arrays),
        fingerprints=checkpoint.fingerprints,
        digest=checkpoint.settings["digest"],
    )


def _facts(stored: dict[str, Any]) -> Facts:
    columns: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return Facts(**columns)


def _measured(
    part: str, rows: Sequence[dict[str, Any]], arrays: Mapping[str, np.ndarray]
) -> tuple[Measured, ...]:
    prefix = f"{part}/windows/"
    windows = {
        name.removeprefix(prefix): split_windows(stacked)
        for name, stacked in arrays.items()
        if name.startswith(prefix)
    }
    return tuple(
        Measured(
            values=row[part]["values"],
            told=row[part]["told"],
            tags=arrays[f"{part}/tags"][i],
            vector=arrays[f"{part}/vector"][i],
            windows={name: pieces[i] for name, pieces in windows.items()},
        )
        for i, row in enumerate(rows)
    )
