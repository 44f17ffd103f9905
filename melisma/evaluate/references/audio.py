"""The reference set of sound: stored measurements of held-out music that outputs are compared with.

Every piece has its text and its facts, and is measured twice: as it is (`raw`), and after the
codec's round trip at the levels that the generator predicts (`coded`), because every output passes
through the codec, too. The sound itself is not stored. The prompts of the set are the texts of its
pieces, so that an output and the real piece for the same text can be compared as a pair, as
MusicCaps is used (MusicLM, 2301.11325, section 5.1).

Input: clips with facts and texts. Output: a `Reference`, as a value and as one safetensors file.
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

from melisma.evaluate.legacy_keys import TEXTS_KEY
from melisma.evaluate.measured import Measured, measure_piece
from melisma.evaluate.metrics.adherence import RequestedAttributes, stated_attributes
from melisma.evaluate.models.embedding import Embedding
from melisma.evaluate.models.judge import EMBEDDING_WIDTH, Judge
from melisma.files.checkpoint import Checkpoint, read_checkpoint, tensor_of, write_checkpoint
from melisma.files.typed_json import numbers, typed
from melisma.values import Facts, Waveform
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError

KIND = "reference"
VERDICTS = "verdicts"
"""Key of the judge's fingerprint; "judge" is the embedding of that name."""
FILE_NAME = "reference.safetensors"
"""Its file in a model's folder."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Measurements of held-out music."""

    name: str
    """Description of the set."""
    seconds: float
    """Length of a piece."""
    prompts: tuple[str, ...]
    """Text of every piece."""
    groups: tuple[str, ...]
    """The work of each piece."""
    facts: tuple[Facts, ...]
    raw: tuple[Measured, ...]
    coded: tuple[Measured, ...]
    fingerprints: Mapping[str, str]
    """Fingerprints of the judge (`VERDICTS`), of every embedding by its name, and of the codec
    ("codec")."""
    levels: int
    """Codec levels of `coded`."""
    digest: str
    """Identity of the whole set, also where only a part of it is in use: first 16 hexadecimal
    digits of the SHA-256 of texts, facts and raw embeddings."""

    def __len__(self) -> int:
        return len(self.prompts)

    def real_pieces(self, *, decoded: bool) -> tuple[Measured, ...]:
        """The measurements to compare outputs with: after the codec where outputs were `decoded` by
        it."""
        return self.coded if decoded else self.raw

    def requested(self) -> list[RequestedAttributes]:
        """The attributes that the text of every piece states."""
        return [
            stated_attributes(words, facts)
            for facts, words in zip(self.facts, self.prompts, strict=True)
        ]

    def fit(self, judge: str, embeddings: Mapping[str, str]) -> tuple[Reference | None, list[str]]:
        """The part of the set that was measured by a judge and embeddings of these fingerprints.

        Args:
            judge: Fingerprint of the judge.
            embeddings: Name -> fingerprint of the embeddings.

        Returns:
            The set with the windows of those embeddings only, None if the judge is another; and a
            sentence for everything that does not match.
        """
        if self.fingerprints.get(VERDICTS) != judge:
            return None, [
                "The reference set was measured by another judge, so nothing is compared with it: "
                "make one for this judge with `melisma train reference`, or take its own."
            ]
        fit = [name for name, own in embeddings.items() if self.fingerprints.get(name) == own]
        problems = [
            f"The reference set was not measured by the embedding {name}, so it has no Fréchet "
            "distance: give --reference a folder of real sound, which is then measured."
            for name in embeddings
            if name not in fit
        ]

        def restricted(pieces: tuple[Measured, ...]) -> tuple[Measured, ...]:
            return tuple(
                dataclasses.replace(one, windows={n: one.windows[n] for n in fit}) for one in pieces
            )

        part = dataclasses.replace(self, raw=restricted(self.raw), coded=restricted(self.coded))
        return part, problems

    def first(self, count: int) -> Reference:
        """The set of its first `count` pieces."""
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
    """One piece of held-out real music."""

    sound: Waveform
    words: str
    facts: Facts
    group: str
    """The work that it is from."""
    onsets_seconds: np.ndarray | None = None
    """Onsets of notes and drums, float64 [onset]; None where they are not known."""


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
    """Measures pieces as they are and after the codec's round trip.

    Args:
        name: Description of the set.
        pieces: Real music, two pieces or more.
        through_codec: The codec's round trip.
        judge: The independent evaluation model.
        embeddings: Those whose windows are stored.
        codec_fingerprint: Fingerprint of the codec.
        levels: Codec levels of the round trip.
        codec_values: Measures the fidelity of a round trip; its numbers are added to those of
            `coded`.
        follow: Wraps the iteration over pieces, e.g. to show progress.

    Raises:
        MelismaError: For fewer than two pieces.
    """
    if len(pieces) < 2:
        raise MelismaError(f"a reference set needs two pieces or more, not {len(pieces)}")
    raw: list[Measured] = []
    coded: list[Measured] = []
    for piece in follow(pieces):
        raw.append(measure_piece(piece.sound, judge, embeddings))
        sound = through_codec(piece.sound)
        found = measure_piece(sound, judge, embeddings)
        fidelity = {} if codec_values is None else codec_values(piece, sound)
        coded.append(dataclasses.replace(found, values={**found.values, **fidelity}))
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
    """Arrays of all pieces; missing windows are nan."""
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
    """Writes one file (float16), atomically."""
    parts = {"raw": reference.raw, "coded": reference.coded}
    rows = [
        {
            "prompt": words,
            "group": reference.groups[i],
            "facts": dataclasses.asdict(facts),
            **{
                part: {"values": dict(pieces[i].values), TEXTS_KEY: dict(pieces[i].texts)}
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
    """Reads a file of `write_reference`; `MelismaError` for anything else, or a damaged file."""
    checkpoint = read_checkpoint(path, kind=KIND, finite=False)
    try:
        rows = typed(checkpoint.notes.get("rows"), list[dict[str, Any]], "rows")
        settings = typed(checkpoint.settings, _StoredSettings, "settings")
        return Reference(
            name=settings.name,
            seconds=settings.seconds,
            levels=settings.levels,
            prompts=tuple(typed(row.get("prompt"), str, "prompt") for row in rows),
            groups=tuple(typed(row.get("group"), str, "group") for row in rows),
            facts=tuple(typed(row.get("facts"), Facts, "facts") for row in rows),
            raw=_measured("raw", rows, checkpoint),
            coded=_measured("coded", rows, checkpoint),
            fingerprints=checkpoint.fingerprints,
            digest=settings.digest,
        )
    except MelismaError as error:
        raise MelismaError(f"{path} is no whole reference set ({error}): make it again") from error


@dataclass(frozen=True, kw_only=True)
class _StoredSettings:
    """The settings in the file of a reference set."""

    name: str
    seconds: float
    levels: int
    digest: str


def _measured(
    part: str, rows: Sequence[dict[str, Any]], checkpoint: Checkpoint
) -> tuple[Measured, ...]:
    prefix, count = f"{part}/windows/", len(rows)
    windows = {
        name.removeprefix(prefix): split_windows(
            tensor_of(checkpoint, name, (count, None, None)).numpy()
        )
        for name in checkpoint.tensors
        if name.startswith(prefix)
    }
    tags = tensor_of(checkpoint, f"{part}/tags", (count, len(FAMILIES))).numpy()
    vectors = tensor_of(checkpoint, f"{part}/vector", (count, EMBEDDING_WIDTH)).numpy()
    measured = [typed(row.get(part), dict[str, Any], part) for row in rows]
    return tuple(
        Measured(
            values=numbers(one.get("values"), f"{part}.values"),
            texts=typed(one.get(TEXTS_KEY), dict[str, str], f"{part}.{TEXTS_KEY}"),
            tags=tags[i],
            vector=vectors[i],
            windows={name: pieces[i] for name, pieces in windows.items()},
        )
        for i, one in enumerate(measured)
    )
