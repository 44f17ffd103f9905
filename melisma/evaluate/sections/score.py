"""The card of a set of scores: outputs of the score model, or any folder of MIDI files.

Enters: scores with their prompts, and a reference of real pieces. Leaves: rows of a `Card`:
adherence from the notes, form, originality. Rendered sound is judged by `audio.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melisma.analysis.score.structure import ScoreStructure
from melisma.evaluate.metrics.figures import figure_of
from melisma.evaluate.metrics.score_adherence import (
    MARKS,
    MeasuredScoreAttributes,
    RequestedScoreAttributes,
    mark_chance,
    marks,
)
from melisma.evaluate.metrics.statistics import median_interval
from melisma.evaluate.references.score import ScoreReference
from melisma.evaluate.report.card import CardRow
from melisma.evaluate.report.results import Results
from melisma.generation.score.adherence import REAL_FORM, form_agreement


@dataclass(frozen=True, kw_only=True)
class JudgedScore:
    """One score that is judged."""

    name: str
    prompt: str
    """Empty where it is not known."""
    wish: RequestedScoreAttributes
    """What is asked for; a wish without wishes where nothing is known."""
    heard: MeasuredScoreAttributes


def add_score_adherence(
    found: Results, pieces: Sequence[JudgedScore], reference: ScoreReference | None
) -> None:
    """Whether the notes do what the words say, beside real pieces and their own facts."""
    pairs = [(one.wish, one.heard) for one in pieces]
    truth = [] if reference is None else list(reference.pairs)
    before = len(found.rows)
    for key, (name, mark) in MARKS.items():
        numbers = np.array([math.nan if (m := mark(*pair)) is None else m for pair in pairs])
        ceiling = marks(truth, mark)
        found.add(
            key,
            "adherence",
            name,
            numbers,
            better="higher",
            chance=mark_chance(key, [wish for wish, _ in pairs]),
            ceiling=float(ceiling.mean()) if len(ceiling) else None,
        )
    if len(found.rows) == before:
        found.notes.append("Adherence was not measured: nothing is known of what was asked for.")


def add_form(
    found: Results, pieces: Sequence[JudgedScore], reference: ScoreReference | None
) -> None:
    """How pieces are built, beside real ones."""
    agreement = np.array([form_agreement(one.heard.structure) for one in pieces])
    real = None
    if reference is not None:
        real = float(np.mean([form_agreement(h.structure) for _, h in reference.pairs]))
    found.add(
        "form",
        "form",
        f"nearness to real music in {len(REAL_FORM)} figures of form",
        agreement,
        better="higher",
        ceiling=real,
    )
    for one in dataclasses.fields(ScoreStructure):
        numbers = np.array([getattr(piece.heard.structure, one.name) for piece in pieces])
        usual = None
        if reference is not None:
            usual = float(
                np.mean([getattr(heard.structure, one.name) for _, heard in reference.pairs])
            )
        name = one.name.replace("_", " ")
        found.add(one.name, "form", name, numbers, better="", ceiling=usual)


def add_score_originality(
    found: Results, pieces: Sequence[JudgedScore], reference: ScoreReference | None
) -> None:
    """The longest run of notes shared with a training piece, whatever its transposition."""
    runs = [one.heard.shared for one in pieces]
    known = [run for run in runs if run is not None]
    if len(known) < len(runs) or not known:
        found.notes.append(
            "Originality was not measured: the model has no index of its training pieces "
            "(`melisma train prints` makes one)."
        )
        return
    notes = np.array([float(run.notes) for run in known])
    real = [] if reference is None else [h.shared for _, h in reference.pairs if h.shared]
    control = float(np.median([run.notes for run in real])) if real else None
    for values, told, run in zip(found.values, found.told, known, strict=True):
        values["shared_notes"] = float(run.notes)
        if run.piece:
            told["nearest training piece"] = f"{run.piece}, {run.notes} notes"
    figure = figure_of(
        "notes of the longest run shared with a training piece, median",
        median_interval(notes),
        ceiling=control,
    )
    found.rows.append(
        CardRow(
            key="shared_notes",
            section="originality",
            figure=figure,
            better="lower",
            average="median",
        )
    )
