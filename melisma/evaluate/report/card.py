"""The card of an evaluation: what was measured, under which protocol, with which intervals.

A card is one JSON file. It holds the frozen protocol (reference set and its hash, embeddings and
their fingerprints, rate, level, length, count, seeds, versions), every figure with its 95 %
interval, chance and ceiling, the values of every piece, the data of the plots, and a sentence for
everything that could not be measured. The embeddings of the pieces are stored beside it in a
safetensors file of the same name, so that Fréchet distances of two cards can be compared by pairs.

Input and output: `Card` and its JSON. `comparison.py` compares two, `html.py` renders one. JSON
keys are the names of the fields, apart from `legacy_keys.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from melisma.evaluate.legacy_keys import SENTENCE_KEY, TEXTS_KEY
from melisma.evaluate.metrics.figures import Figure, parse_figure
from melisma.files.atomic import write_bytes
from melisma.files.typed_json import numbers, read_json, typed
from melisma.values.errors import MelismaError

CARD_NAME = "card.json"
"""File of a card in the folder of an evaluation."""
CARD_KIND = "melisma evaluation card"
CARD_VERSION = 1
"""Changes with the meaning of any field or metric: cards of two versions cannot be compared."""
SECTIONS: dict[str, str] = {
    "quality": "Quality",
    "adherence": "Adherence",
    "faults": "Artefacts",
    "wins": "Wins",
    "originality": "Originality",
    "bias": "Bias",
    "form": "Form",
    "codec": "Codec",
}
"""Sections of a card in the order of the report, with their titles."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that the meaning of the figures depends on."""

    subject: str
    """"sound" or "score": which metrics apply."""
    reference: str
    """Name of the reference set; empty without one."""
    reference_hash: str
    """Its digest: first 16 hexadecimal digits of a SHA-256."""
    prompts: str
    """Name of the list of prompts."""
    prompts_hash: str
    """The same of the prompts, one per line."""
    embeddings: Mapping[str, str]
    """Name -> fingerprint."""
    judge: str
    """Fingerprint of the judge; empty without one."""
    rate_hz: int
    """Sampling rate at which sound is judged; other rates are resampled (soxr, high quality)."""
    level: str
    """How levels are normalised, in words."""
    seconds: float
    """Length of the excerpt at the beginning of every piece that is judged."""
    count: int
    """Number of pieces."""
    seed: int
    """Seed of the first piece, and of everything random in the metrics."""
    repeats: int
    """Bootstrap samples of every interval (of Fréchet distances: `frechet.REPEATS`)."""
    version: int = CARD_VERSION

    def differences(self, other: Protocol) -> list[str]:
        """Differences that make two cards incomparable, in words; empty where there are none."""
        found = []
        names = {
            "version": "version of the protocol",
            "subject": "subject",
            "reference_hash": "reference set",
            "judge": "judge",
            "rate_hz": "sampling rate",
            "level": "level",
            "seconds": "length judged",
        }
        for name, words in names.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                found.append(f"the {words} differs: {mine or 'none'} and {theirs or 'none'}")
        return found


@dataclass(frozen=True, kw_only=True)
class CardRow:
    """One figure of a card."""

    key: str
    """Short and stable, e.g. "fad_music": rows of two cards are matched by it."""
    section: str
    """One of `SECTIONS`."""
    figure: Figure
    better: str = ""
    """"higher", "lower", or empty where neither is better."""
    average: str = "mean"
    """"mean" or "median": how the figure is computed from the values of pieces."""
    goals: Mapping[str, float] = field(default_factory=dict)
    """Name -> target value, e.g. {"C + 5F": 1.8}."""

    def met(self) -> dict[str, bool]:
        """Whether the value itself meets each goal."""
        if self.better not in ("higher", "lower"):
            return {}
        sign = 1.0 if self.better == "higher" else -1.0
        return {name: sign * (self.figure.value - goal) >= 0 for name, goal in self.goals.items()}


@dataclass(frozen=True, kw_only=True)
class PieceRow:
    """Results for one piece."""

    name: str
    """File or number; pieces of two cards are matched by it."""
    prompt: str
    """Empty where there was none."""
    values: Mapping[str, float]
    """Key of a row -> the value of this piece, of which the figure is the mean or median."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Findings in words: tempo, key, nearest training clip ... (`TEXTS_KEY` in cards before
    0.6)."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One evaluation."""

    title: str
    """What was judged, in words."""
    judged: Mapping[str, str]
    """Model, fingerprint, sampling settings, folder, licence: whatever identifies the outputs."""
    protocol: Protocol
    rows: tuple[CardRow, ...]
    pieces: tuple[PieceRow, ...]
    plots: Mapping[str, Any] = field(default_factory=dict)
    """Data of plots by name, JSON values; see `html.py`."""
    notes: tuple[str, ...] = ()
    """What could not be measured, and why, one sentence each."""
    made_by: Mapping[str, str] = field(default_factory=dict)
    """Command, date, versions of Python, torch, numpy, scipy and Melisma."""
    embeddings: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    """Name of an embedding -> float32 [piece, window, width], in the order of `pieces`."""

    def row(self, key: str) -> CardRow | None:
        """The row of a key; None if there is none."""
        return next((row for row in self.rows if row.key == key), None)

    def section(self, name: str) -> tuple[CardRow, ...]:
        """The rows of one section."""
        return tuple(row for row in self.rows if row.section == name)


def embeddings_path(path: Path) -> Path:
    """Path of the embeddings of a card at `path`."""
    return path.with_suffix(".safetensors")


def write_card(path: Path, card: Card) -> None:
    """Writes a card, and its embeddings beside it; the folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if card.embeddings:
        arrays = {name: rows.astype(np.float16) for name, rows in card.embeddings.items()}
        write_bytes(embeddings_path(path), save(arrays))
    tree = dataclasses.asdict(dataclasses.replace(card, embeddings={}))
    del tree["embeddings"]
    document = {"kind": CARD_KIND, **tree}
    text = json.dumps(_plain(document), indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"))


def _rename_key(row: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """A row with one key renamed, in the same order."""
    return {new if key == old else key: value for key, value in row.items()}


def _plain(value: Any) -> Any:
    """JSON values: nan and infinity become null, numpy types become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value


def read_card(path: Path) -> Card:
    """Reads a card.

    Args:
        path: Its file, or the folder that it was written to.

    Raises:
        MelismaError: If it is not a card, is damaged, or has another version.
    """
    path = path / CARD_NAME if path.is_dir() else path
    try:
        document = read_json(path)
    except MelismaError as error:
        raise MelismaError(f"{path} is no card: it is not JSON, or cut short") from error
    if not isinstance(document, dict) or document.get("kind") != CARD_KIND:
        raise MelismaError(f"{path} is no card: `melisma evaluate` writes them")
    protocol = document.get("protocol")
    version = protocol.get("version") if isinstance(protocol, dict) else None
    if version != CARD_VERSION:
        raise MelismaError(
            f"{path} is a card of version {version}, this program knows version {CARD_VERSION}: "
            "evaluate again"
        )
    try:
        card = _read_document({name: one for name, one in document.items() if name != "kind"})
    except MelismaError as error:
        raise MelismaError(f"{path} is no whole card ({error}): evaluate again") from error
    embeddings = _read_embeddings(embeddings_path(path), len(card.pieces))
    return dataclasses.replace(card, embeddings=embeddings)


def _read_document(document: dict[str, Any]) -> Card:
    """A card without its embeddings, from JSON values of any types."""
    if "embeddings" in document:
        raise MelismaError("embeddings are in a file of their own")
    rows = typed(document.get("rows"), list[dict[str, Any]], "rows")
    pieces = typed(document.get("pieces"), list[dict[str, Any]], "pieces")
    rest = typed({**document, "rows": [], "pieces": []}, Card)
    return dataclasses.replace(
        rest,
        rows=tuple(_read_row(row, f"rows[{index}]") for index, row in enumerate(rows)),
        pieces=tuple(_read_piece(row, f"pieces[{index}]") for index, row in enumerate(pieces)),
    )


def _read_row(row: dict[str, Any], where: str) -> CardRow:
    figure = typed(row.get("figure"), dict[str, Any], f"{where}.figure")
    details = typed(figure.get("details", {}), dict[str, Any], f"{where}.figure.details")
    figure = {**figure, "details": _rename_key(details, SENTENCE_KEY, "sentence")}
    blank: dict[str, Any] = {"what": "", "value": 0.0}
    read = typed({**row, "figure": blank}, CardRow, where)
    return dataclasses.replace(read, figure=parse_figure(figure, f"{where}.figure"))


def _read_piece(row: dict[str, Any], where: str) -> PieceRow:
    values = numbers(row.get("values"), f"{where}.values")
    read = typed({**_rename_key(row, TEXTS_KEY, "texts"), "values": {}}, PieceRow, where)
    return dataclasses.replace(read, values=values)


def _read_embeddings(path: Path, pieces: int) -> dict[str, np.ndarray]:
    """Name of an embedding -> float32 [piece, window, width]; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        arrays = {name: rows.astype(np.float32) for name, rows in load_file(path).items()}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise MelismaError(f"{path} is damaged: evaluate again") from error
    for name, rows in arrays.items():
        if rows.ndim != 3 or len(rows) != pieces or np.isinf(rows).any():
            raise MelismaError(
                f"{path} does not belong to the card beside it, or is damaged: its embeddings "
                f"{name} are {list(rows.shape)} values, for {pieces} pieces"
            )
    return arrays
