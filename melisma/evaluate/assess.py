"""From pieces to a card: the page from which every section is called.

Sound and scores take the same way: every piece is read and measured once; what cannot be read or
is silent is told and left out; then the sections speak. Scores are heard as rendered sound, too.

Enters: `SoundToJudge`s or `ScoreToJudge`s, which read themselves when their turn comes, and
`Judges`. Leaves: a `Card`, and in its `problems` sentences for what was asked for and could not be
done.
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
from melisma.evaluate.models.embeddings import Embedding
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
from melisma.values import Score, Waveform

Progress = Callable[[float], None]
LEVEL = "as it is for detectors; made even by the judge and by each embedding"
JUDGED_SECONDS = 10.0
"""So much of the beginning of a piece is judged, as in MusicCaps (chosen: our models' default)."""
JUDGED_RATE_HZ = 24_000
"""Rate of the detectors and of our own embeddings."""
UNEVEN_SECONDS = 0.5
"""Pieces whose length differs by more than this are not compared without a note."""
_Given = TypeVar("_Given", "SoundToJudge", "ScoreToJudge")
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class SoundToJudge:
    """One piece of sound to judge."""

    name: str
    prompt: str
    wish: RequestedAttributes | None
    twin: int | None
    """As in `JudgedSound`."""
    read: Callable[[], Waveform]


@dataclass(frozen=True, kw_only=True)
class ScoreToJudge:
    """One score to judge."""

    name: str
    prompt: str
    wish: RequestedScoreAttributes
    read: Callable[[], Score]
    render: Callable[[Score], Waveform]


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Everything that judges."""

    judge: Judge
    embeddings: tuple[Embedding, ...]
    reference: Reference | None
    scores: ScoreReference | None
    nearest_clip: Callable[[Waveform], Resemblance] | None
    """What training clips a sound is near to; None where there is no index."""
    nearest_tune: Callable[[Score], SharedRun] | None
    """The same for notes."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What is being judged, and how it is called in the card."""

    title: str
    label: str
    """Short name of the outputs, in wins."""
    judged: Mapping[str, str]
    prompts: str
    """Name of the list of prompts."""
    command: str
    decoded: bool = False
    """Whether all outputs were decoded by our codec: then real music is heard through it, too."""
    seed: int = 0
    seconds: float = JUDGED_SECONDS
    problems: tuple[str, ...] = ()
    """Sentences from before the measuring: files without prompts, embeddings that are missing."""


def assess_sound(
    given: Sequence[SoundToJudge],
    opened: Sequence[SoundToJudge],
    judges: Judges,
    occasion: RunInfo,
    progress: Progress | None = None,
) -> tuple[Card, list[str]]:
    """Judges sounds. `opened` are outputs to open prompts, for the section on bias; may be empty.

    Returns the card and the problems. `ValueError` where no piece at all can be judged.
    """
    asked = {one.name for one in given}
    near: dict[str, Resemblance] = {}
    rates: set[int] = set()

    def measure(one: SoundToJudge) -> Measured:
        whole = one.read()
        rates.add(whole.rate_hz)
        part = judged_part(whole, occasion.seconds)
        if judges.nearest_clip is not None and one.name in asked:
            near[one.name] = judges.nearest_clip(part)
        return measure_piece(part, judges.judge, judges.embeddings)

    found, problems = _each([*given, *opened], measure, progress)
    pieces = [_sound_piece(one, found[one.name]) for one in given if one.name in found]
    if not pieces:
        raise ValueError("there is nothing to judge: " + "; ".join(problems))
    results = Results.of(len(pieces))
    _tell_sound(results, pieces)
    if len(rates) > 1:
        told = ", ".join(f"{rate} Hz" for rate in sorted(rates))
        results.notes.append(f"The files have several sampling rates ({told}).")
    reference, judge, seed = judges.reference, judges.judge, occasion.seed
    true = _true(results, reference, occasion)
    heard = [found[one.name] for one in opened if one.name in found]
    nearest = [near.get(one.name) for one in pieces]
    _speak(
        results,
        lambda: add_quality(results, pieces, reference, seed, decoded=occasion.decoded),
        lambda: add_adherence(results, pieces, reference, true),
        lambda: add_similarity(results, pieces, reference, true, judge),
        lambda: add_divergence(results, pieces, reference, true),
        lambda: add_faults(results, pieces, true),
        lambda: add_wins(results, pieces, reference, judge, occasion.label, seed),
        lambda: add_originality(results, nearest, judges.nearest_clip),
        lambda: add_bias(results, heard, true, seed),
        lambda: add_codec(results, reference),
    )
    card = _card("sound", occasion, judges, results, pieces, problems)
    return card, problems


def assess_scores(
    given: Sequence[ScoreToJudge],
    judges: Judges,
    occasion: RunInfo,
    progress: Progress | None = None,
) -> tuple[Card, list[str]]:
    """Judges scores by their notes, and by their sound as it is rendered: no codec is in between,
    whatever `occasion.decoded` says."""
    sounds: dict[str, Measured] = {}

    def measure(one: ScoreToJudge) -> JudgedScore:
        score = one.read()
        sound = one.render(score)
        part = judged_part(sound, occasion.seconds)
        sounds[one.name] = measure_piece(part, judges.judge, judges.embeddings)
        heard = measure_score(score, one.wish, None, judges.nearest_tune, sound)
        return JudgedScore(name=one.name, prompt=one.prompt, wish=one.wish, heard=heard)

    found, problems = _each(given, measure, progress)
    pieces = [found[one.name] for one in given if one.name in found]
    if not pieces:
        raise ValueError("there is nothing to judge: " + "; ".join(problems))
    results = Results.of(len(pieces))
    heard = [
        JudgedSound(
            name=one.name, prompt=one.prompt, wish=None, twin=None, measured=sounds[one.name]
        )
        for one in pieces
    ]
    _tell_sound(results, heard)
    reference, scores = judges.reference, judges.scores
    occasion = dataclasses.replace(occasion, decoded=False)
    true = _true(results, reference, occasion)
    _speak(
        results,
        lambda: add_score_adherence(results, pieces, scores),
        lambda: add_form(results, pieces, scores),
        lambda: add_score_originality(results, pieces, scores),
        lambda: add_quality(results, heard, reference, occasion.seed, decoded=False),
        lambda: add_similarity(results, heard, reference, true, judges.judge),
        lambda: add_faults(results, heard, true),
    )
    card = _card("score", occasion, judges, results, heard, problems)
    return card, problems


def _each(
    given: Sequence[_Given],
    measure: Callable[[_Given], _Found],
    progress: Progress | None,
) -> tuple[dict[str, _Found], list[str]]:
    """Name -> what was measured, and a sentence for every piece that cannot be judged."""
    found: dict[str, _Found] = {}
    problems: list[str] = []
    for number, one in enumerate(given):
        try:
            found[one.name] = measure(one)
        except (ValueError, OSError) as error:
            problems.append(f"{one.name} was left out: {error}")
        if progress is not None:
            progress((number + 1) / len(given))
    return found, problems


def _true(results: Results, reference: Reference | None, occasion: RunInfo) -> tuple[Measured, ...]:
    """The real music that outputs are held against; empty without a reference set."""
    if reference is None:
        return ()
    if abs(reference.seconds - occasion.seconds) > UNEVEN_SECONDS:
        results.notes.append(
            f"Outputs were judged over {occasion.seconds:g} s, the reference set over "
            f"{reference.seconds:g} s: what depends on length is not comparable."
        )
    return reference.true(decoded=occasion.decoded)


def _speak(results: Results, *sections: Callable[[], None]) -> None:
    """Every section in turn; one that cannot speak leaves a note, and the rest goes on."""
    for section in sections:
        try:
            section()
        except ValueError as error:
            results.notes.append(f"One section was left out: {error}.")


def _sound_piece(one: SoundToJudge, measured: Measured) -> JudgedSound:
    return JudgedSound(
        name=one.name, prompt=one.prompt, wish=one.wish, twin=one.twin, measured=measured
    )


def _tell_sound(results: Results, pieces: Sequence[JudgedSound]) -> None:
    """What was heard, in words, for the table of pieces."""
    for told, one in zip(results.told, pieces, strict=True):
        tempo = one.measured.values["tempo_signal"]
        if np.isfinite(tempo):
            told["tempo"] = f"{tempo:.0f} bpm"
        told |= {name: words for name, words in one.measured.told.items() if words}


def _card(
    subject: str,
    occasion: RunInfo,
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
        title=occasion.title,
        judged=occasion.judged,
        protocol=Protocol(
            subject=subject,
            reference="; ".join(names),
            reference_hash=" ".join(digests),
            prompts=occasion.prompts,
            prompts_hash=hashlib.sha256(listed.encode()).hexdigest()[:16],
            embeddings={one.name: one.fingerprint for one in judges.embeddings},
            judge=judges.judge.fingerprint,
            rate_hz=JUDGED_RATE_HZ,
            level=LEVEL,
            seconds=occasion.seconds,
            count=len(pieces),
            seed=occasion.seed,
            repeats=REPEATS,
        ),
        rows=tuple(results.rows),
        pieces=results.piece_rows([(one.name, one.prompt) for one in pieces]),
        plots=results.plots,
        notes=(*occasion.problems, *problems, *results.notes),
        made_by=_made_by(occasion.command),
        embeddings=windows,
    )


def _made_by(command: str) -> dict[str, str]:
    """Who measured, when, with what."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Melisma": melisma.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
