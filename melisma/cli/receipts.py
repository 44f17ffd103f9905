"""Receipts for a person and for machines: what was asked, what was measured, what is near to it.

Enters: pieces and the model that made them. Leaves: rows of the JSON receipt, and lines of text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melisma.generation import Piece, ScorePiece, SoundComposer
    from melisma.generation.originality import (
        Checked,
        ScoreOriginality,
        Similarity,
        SoundOriginality,
    )
    from melisma.values import Waveform


def sound_receipt(composer: SoundComposer, piece: Piece, finished: Waveform) -> dict[str, object]:
    """What is measured of a finished sound against what its words state."""
    from melisma.analysis.receipt import receipt_of_sound

    heard = composer.detect_families(piece.waveform)
    return receipt_of_sound(finished, piece.stated, heard).as_json()


def score_receipt(piece: ScorePiece) -> dict[str, object]:
    """What is measured of a score's notes against what its words state."""
    from melisma.analysis.receipt import receipt_of_score

    return receipt_of_score(piece.score, piece.stated).as_json()


def receipt_lines(row: dict[str, object]) -> list[str]:
    """The parts "receipt" and "original" of a row for a person, indented, where it has them."""
    lines: list[str] = []
    receipt, original = row.get("receipt"), row.get("original")
    if isinstance(receipt, dict):
        from melisma.analysis.receipt import Receipt

        lines += [f"  {line}" for line in Receipt.of_json(receipt).lines()]
    if isinstance(original, dict):
        told = f"  originality: {original['nearest']}"
        if original["redrawn"]:
            told += f"; drawn again {original['redrawn']} times"
        lines.append(told + ("; still too near" if original["too_near"] else ""))
    return lines


def sound_index(composer: SoundComposer, model: str) -> SoundOriginality:
    """The index of training clips; `ValueError` where the model has none."""
    from melisma.generation import Composer
    from melisma.generation.loading import model_folder
    from melisma.generation.originality import SoundOriginality

    assert isinstance(composer, Composer)
    found = SoundOriginality.read(model_folder(model), composer.ears)
    if found is None:
        raise ValueError(_without(model_folder(model), "index"))
    return found


def score_index(model: str) -> ScoreOriginality:
    """The prints of training pieces; `ValueError` where the model has none."""
    from melisma.generation.loading import model_folder
    from melisma.generation.originality import ScoreOriginality

    found = ScoreOriginality.read(model_folder(model))
    if found is None:
        raise ValueError(_without(model_folder(model), "prints"))
    return found


def _without(folder: Path, recipe: str) -> str:
    return (
        f"--original: the model {folder.name} has no index of what it learned from; "
        f"`melisma train {recipe}` makes one"
    )


def original_sound(
    piece: Piece, again: Callable[[int], Piece], index: SoundOriginality
) -> Checked[Piece]:
    """The piece, or another one where it is too near to a training clip."""
    from melisma.generation.originality import check_original

    def nearest(one: Piece) -> Similarity:
        drawn = None if one.semantic is None else one.semantic.tokens[0]
        return index.nearness(one.waveform, drawn)

    return check_original(piece, again, piece.seed, nearest)


def original_score(
    piece: ScorePiece, again: Callable[[int], ScorePiece], index: ScoreOriginality
) -> Checked[ScorePiece]:
    """The same for notes."""
    from melisma.generation.originality import check_original

    return check_original(piece, again, piece.seed, lambda one: index.nearness(one.score))
