"""Sections of the card of a set of scores: outputs of the score model, or any folder of MIDI files.

Input: measured scores with their prompts, and a reference of real pieces. Output: rows of a `Card`:
adherence from the notes, form, originality. Rendered sound is judged by `audio.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melisma.analysis.score.structure import ScoreStructure
from melisma.evaluate.legacy_keys import STRUCTURE_KEYS
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
    requested: RequestedScoreAttributes
    """What the prompt requests; all attributes open where nothing is known."""
    measured: MeasuredScoreAttributes


def add_score_adherence(
    results: Results, pieces: Sequence[JudgedScore], reference: ScoreReference | None
) -> None:
    """Adds adherence of the notes to the prompts; the ceiling is real pieces with their own
    facts."""
    pairs = [(one.requested, one.measured) for one in pieces]
    truth = [] if reference is None else list(reference.pairs)
    before = len(results.rows)
    for key, (name, mark) in MARKS.items():
        numbers = np.array([math.nan if (m := mark(*pair)) is None else m for pair in pairs])
        ceiling = marks(truth, mark)
        results.add(
            key,
            "adherence",
            name,
            numbers,
            better="higher",
            chance=mark_chance(key, [requested for requested, _ in pairs]),
            ceiling=float(ceiling.mean()) if len(ceiling) else None,
        )
    if len(results.rows) == before:
        results.notes.append("Adherence was not measured: it is not known what was requested.")


def add_form(
    results: Results, pieces: Sequence[JudgedScore], reference: ScoreReference | None
) -> None:
    """Adds the form of pieces; the ceiling is real pieces."""
    agreement = np.array([form_agreement(one.measured.structure) for one in pieces])
    real = None
    if reference is not None:
        real = float(np.mean([form_agreement(m.structure) for _, m in reference.pairs]))
    results.add(
        "form",
        "form",
        f"nearness to real music in {len(REAL_FORM)} figures of form",
        agreement,
        better="higher",
        ceiling=real,
    )
    for one in dataclasses.fields(ScoreStructure):
        numbers = np.array([getattr(piece.measured.structure, one.name) for piece in pieces])
        usual = None
        if reference is not None:
            usual = float(
                np.mean([getattr(measured.structure, one.name) for _, measured in reference.pairs])
            )
        name = one.name.replace("_", " ")
        key = STRUCTURE_KEYS.get(one.name, one.name)
        results.add(key, "form", name, numbers, better="", ceiling=usual)


def add_score_originality(
    results: Results, pieces: Sequence[JudgedScore], reference: ScoreReference | None
) -> None:
    """Adds the longest run of notes shared with a training piece, in any transposition."""
    runs = [one.measured.shared for one in pieces]
    known = [run for run in runs if run is not None]
    if len(known) < len(runs) or not known:
        results.notes.append(
            "Originality was not measured: the model has no index of its training pieces "
            "(`melisma train prints` makes one)."
        )
        return
    notes = np.array([float(run.notes) for run in known])
    real = [] if reference is None else [m.shared for _, m in reference.pairs if m.shared]
    control = float(np.median([run.notes for run in real])) if real else None
    for values, texts, run in zip(results.values, results.texts, known, strict=True):
        values["shared_notes"] = float(run.notes)
        if run.piece:
            texts["nearest training piece"] = f"{run.piece}, {run.notes} notes"
    figure = figure_of(
        "notes of the longest run shared with a training piece, median",
        median_interval(notes),
        ceiling=control,
    )
    results.rows.append(
        CardRow(
            key="shared_notes",
            section="originality",
            figure=figure,
            better="lower",
            average="median",
        )
    )
