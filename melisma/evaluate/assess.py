"""Assessment of a set of pieces: measures every piece once and calls every section of the card.

Sound and scores take the same route: every piece is read and measured once; pieces that cannot be
read or are silent are reported and left out; then the sections add their rows. Scores are also
measured as rendered sound.

Input: `SoundToJudge`s or `ScoreToJudge`s, which are read only when they are measured, and `Judges`.
Output: a `Card`, and a list of problems: sentences about what was requested and could not be done.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy
import torch

import melisma
from melisma.analysis.similarity.clip_index import Resemblance
from melisma.analysis.similarity.melody_index import SharedRun
from melisma.evaluate.measured import Measured, judged_part, measure_piece
from melisma.evaluate.metrics.adherence import RequestedAttributes
from melisma.evaluate.metrics.score_adherence import RequestedScoreAttributes, measure_score
from melisma.evaluate.metrics.statistics import REPEATS
from melisma.evaluate.models.embedding import Embedding
from melisma.evaluate.models.judge import Judge
from melisma.evaluate.references.audio import Reference, stack_windows
from melisma.evaluate.references.score import ScoreReference
from melisma.evaluate.report.card import Card, Protocol
from melisma.evaluate.report.results import Results
from melisma.evaluate.sections.audio import (
    JudgedSound,
    add_adherence,
    add_bias,
    add_codec,
    add_divergence,
    add_faults,
    add_originality,
    add_quality,
    add_similarity,
    add_wins,
)
from melisma.evaluate.sections.score import (
    JudgedScore,
    add_form,
    add_score_adherence,
    add_score_originality,
)
from melisma.files.audio.reading import DecodedAudio
from melisma.sound.repair import repaired
from melisma.values import Score, Waveform
from melisma.values.errors import MelismaError

Progress = Callable[[float], None]
LEVEL = "as it is for detectors; made even by the judge and by each embedding"
"""How levels are normalised, for the protocol: cards with different texts cannot be compared."""
JUDGED_SECONDS = 10.0
"""Length of the excerpt at the beginning of a piece that is judged, as in MusicCaps (chosen: the
default length of our models)."""
JUDGED_RATE_HZ = 24_000
"""Sampling rate of the detectors and of our own embeddings."""
UNEVEN_SECONDS = 0.5
"""A difference in length from the reference set above which a note is added."""
_Given = TypeVar("_Given", "SoundToJudge", "ScoreToJudge")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class SoundToJudge:
    """One piece of sound to judge."""

    name: str
    prompt: str
    requested: RequestedAttributes | None
    reference_index: int | None
    """As in `JudgedSound`."""
    read: Callable[[], DecodedAudio]
    """Reads the sound; called once, and may raise `MelismaError` or `OSError`."""


@dataclass(frozen=True, kw_only=True)
class ScoreToJudge:
    """One score to judge."""

    name: str
    prompt: str
    requested: RequestedScoreAttributes
    read: Callable[[], Score]
    """Reads the score; called once, and may raise `MelismaError` or `OSError`."""
    render: Callable[[Score], Waveform]


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Models, reference sets and indexes that pieces are measured with."""

    judge: Judge
    embeddings: tuple[Embedding, ...]
    reference: Reference | None
    scores: ScoreReference | None
    nearest_clip: Callable[[Waveform], Resemblance] | None
    """Finds the training clips that a sound resembles; None without an index."""
    nearest_tune: Callable[[Score], SharedRun] | None
    """Finds the longest run of notes shared with a training piece; None without an index."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """One evaluation: what is judged, under which names and settings."""

    title: str
    """Title of the card."""
    label: str
    """Short name of the outputs, in the win rates."""
    judged: Mapping[str, str]
    """Model, fingerprint, settings: what identifies the outputs."""
    prompts: str
    """Name of the list of prompts."""
    command: str
    """The command line, for the card."""
    decoded: bool = False
    """Whether our codec decoded all outputs; the real music is then passed through it as well."""
    seed: int = 0
    seconds: float = JUDGED_SECONDS
    """Length of the excerpt that is judged."""
    problems: tuple[str, ...] = ()
    """Sentences from before the measurement: files without prompts, missing embeddings."""


def assess_sound(
    given: Sequence[SoundToJudge],
    opened: Sequence[SoundToJudge],
    judges: Judges,
    run: RunInfo,
    progress: Progress | None = None,
) -> tuple[Card, list[str]]:
    """Measures sounds and makes their card.

    Args:
        given: The sounds to judge.
        opened: Outputs to open prompts, for the section on bias; may be empty.
        judges: Models, reference sets and indexes.
        run: Names and settings of this evaluation.
        progress: Called with the share of pieces measured, 0 to 1.

    Returns:
        The card, and a sentence for every piece that was left out.

    Raises:
        MelismaError: If no piece can be judged.
    """
    with_prompts = {one.name for one in given}
    nearest: dict[str, Resemblance] = {}
    rates: set[int] = set()
    remarks: list[str] = []

    def measure(one: SoundToJudge) -> Measured:
        found = one.read()
        rates.add(found.waveform.rate_hz)
        part, more = repaired(judged_part(found.waveform, run.seconds), one.name)
        remarks.extend((*found.remarks, *more))
        if judges.nearest_clip is not None and one.name in with_prompts:
            nearest[one.name] = judges.nearest_clip(part)
        return measure_piece(part, judges.judge, judges.embeddings)

    found, problems = _measure_all([*given, *opened], measure, progress)
    pieces = [_sound_piece(one, found[one.name]) for one in given if one.name in found]
    if not pieces:
        raise MelismaError("there is nothing to judge: " + "; ".join(problems))
    results = Results.of(len(pieces))
    _describe_pieces(results, pieces)
    results.notes.extend(remarks)
    if len(rates) > 1:
        listed = ", ".join(f"{rate} Hz" for rate in sorted(rates))
        results.notes.append(f"The files have several sampling rates ({listed}).")
    reference, judge, seed = judges.reference, judges.judge, run.seed
    real = _real_pieces(results, reference, run)
    open_pieces = [found[one.name] for one in opened if one.name in found]
    resemblances = [nearest.get(one.name) for one in pieces]
    _add_sections(
        results,
        lambda: add_quality(results, pieces, reference, seed, decoded=run.decoded),
        lambda: add_adherence(results, pieces, reference, real),
        lambda: add_similarity(results, pieces, reference, real, judge),
        lambda: add_divergence(results, pieces, reference, real),
        lambda: add_faults(results, pieces, real),
        lambda: add_wins(results, pieces, reference, judge, run.label, seed),
        lambda: add_originality(results, resemblances, judges.nearest_clip),
        lambda: add_bias(results, open_pieces, real, seed),
        lambda: add_codec(results, reference),
    )
    card = _card("sound", run, judges, results, pieces, problems)
    return card, problems


def assess_scores(
    given: Sequence[ScoreToJudge],
    judges: Judges,
    run: RunInfo,
    progress: Progress | None = None,
) -> tuple[Card, list[str]]:
    """Measures scores by their notes and by their rendered sound, and makes their card.

    Args:
        given: The scores to judge.
        judges: Models, reference sets and indexes.
        run: Names and settings of this evaluation; `decoded` is taken as false, because rendered
            sound does not pass the codec.
        progress: Called with the share of pieces measured, 0 to 1.

    Returns:
        The card, and a sentence for every piece that was left out.

    Raises:
        MelismaError: If no piece can be judged.
    """
    sounds: dict[str, Measured] = {}

    def measure(one: ScoreToJudge) -> JudgedScore:
        score = one.read()
        sound = one.render(score)
        part = judged_part(sound, run.seconds)
        sounds[one.name] = measure_piece(part, judges.judge, judges.embeddings)
        measured = measure_score(score, one.requested, None, judges.nearest_tune, sound)
        return JudgedScore(
            name=one.name, prompt=one.prompt, requested=one.requested, measured=measured
        )

    found, problems = _measure_all(given, measure, progress)
    pieces = [found[one.name] for one in given if one.name in found]
    if not pieces:
        raise MelismaError("there is nothing to judge: " + "; ".join(problems))
    results = Results.of(len(pieces))
    rendered = [
        JudgedSound(
            name=one.name,
            prompt=one.prompt,
            requested=None,
            reference_index=None,
            measured=sounds[one.name],
        )
        for one in pieces
    ]
    _describe_pieces(results, rendered)
    reference, scores = judges.reference, judges.scores
    run = dataclasses.replace(run, decoded=False)
    real = _real_pieces(results, reference, run)
    _add_sections(
        results,
        lambda: add_score_adherence(results, pieces, scores),
        lambda: add_form(results, pieces, scores),
        lambda: add_score_originality(results, pieces, scores),
        lambda: add_quality(results, rendered, reference, run.seed, decoded=False),
        lambda: add_similarity(results, rendered, reference, real, judges.judge),
        lambda: add_faults(results, rendered, real),
    )
    card = _card("score", run, judges, results, rendered, problems)
    return card, problems


def _measure_all(
    given: Sequence[_Given],
    measure: Callable[[_Given], _Result],
    progress: Progress | None,
) -> tuple[dict[str, _Result], list[str]]:
    """Measurements by name of the piece, and a sentence for every piece that cannot be judged."""
    found: dict[str, _Result] = {}
    problems: list[str] = []
    for number, one in enumerate(given):
        try:
            found[one.name] = measure(one)
        except (MelismaError, OSError) as error:
            problems.append(f"{one.name} was left out: {error}")
        if progress is not None:
            progress((number + 1) / len(given))
    return found, problems


def _real_pieces(
    results: Results, reference: Reference | None, run: RunInfo
) -> tuple[Measured, ...]:
    """The real music that outputs are compared with; empty without a reference set."""
    if reference is None:
        return ()
    if abs(reference.seconds - run.seconds) > UNEVEN_SECONDS:
        results.notes.append(
            f"Outputs were judged over {run.seconds:g} s, the reference set over "
            f"{reference.seconds:g} s: what depends on length is not comparable."
        )
    return reference.real_pieces(decoded=run.decoded)


def _add_sections(results: Results, *sections: Callable[[], None]) -> None:
    """Calls every section in turn; one that raises `MelismaError` becomes a note."""
    for section in sections:
        try:
            section()
        except MelismaError as error:
            results.notes.append(f"One section was left out: {error}.")


def _sound_piece(one: SoundToJudge, measured: Measured) -> JudgedSound:
    return JudgedSound(
        name=one.name,
        prompt=one.prompt,
        requested=one.requested,
        reference_index=one.reference_index,
        measured=measured,
    )


def _describe_pieces(results: Results, pieces: Sequence[JudgedSound]) -> None:
    """Adds the findings in words to the table of pieces."""
    for texts, one in zip(results.texts, pieces, strict=True):
        tempo = one.measured.values["tempo_signal"]
        if np.isfinite(tempo):
            texts["tempo"] = f"{tempo:.0f} bpm"
        texts |= {name: words for name, words in one.measured.texts.items() if words}


def _card(
    subject: str,
    run: RunInfo,
    judges: Judges,
    results: Results,
    pieces: Sequence[JudgedSound],
    problems: Sequence[str],
) -> Card:
    reference = judges.reference
    digests = [] if reference is None else [reference.digest]
    names = [] if reference is None else [reference.name]
    if subject == "score" and judges.scores is not None:
        digests.append(judges.scores.digest)
        names.append(judges.scores.name)
    listed = "\n".join(one.prompt for one in pieces)
    sounds = [one.measured for one in pieces]
    windows = {
        name: stack_windows([one.windows[name] for one in sounds]) for name in sounds[0].windows
    }
    return Card(
        title=run.title,
        judged=run.judged,
        protocol=Protocol(
            subject=subject,
            reference="; ".join(names),
            reference_hash=" ".join(digests),
            prompts=run.prompts,
            prompts_hash=hashlib.sha256(listed.encode()).hexdigest()[:16],
            embeddings={one.name: one.fingerprint for one in judges.embeddings},
            judge=judges.judge.fingerprint,
            rate_hz=JUDGED_RATE_HZ,
            level=LEVEL,
            seconds=run.seconds,
            count=len(pieces),
            seed=run.seed,
            repeats=REPEATS,
        ),
        rows=tuple(results.rows),
        pieces=results.piece_rows([(one.name, one.prompt) for one in pieces]),
        plots=results.plots,
        notes=(*run.problems, *problems, *results.notes),
        made_by=_made_by(run.command),
        embeddings=windows,
    )


def _made_by(command: str) -> dict[str, str]:
    """Command, date and versions, for the card."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Melisma": melisma.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
