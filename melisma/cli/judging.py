"""What `melisma evaluate` gathers before it judges: judges, references, pieces with their prompts.

Enters: an `EvaluationRequest`, checked. Leaves: a card and its problems. Everything that is heavy
is imported here, late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.cli.progress import Progress

if TYPE_CHECKING:
    from melisma.analysis.similarity.clip_index import Resemblance
    from melisma.analysis.similarity.melody_index import SharedRun
    from melisma.evaluate.assess import Judges, RunInfo, ScoreToJudge, SoundToJudge
    from melisma.evaluate.metrics.adherence import RequestedAttributes
    from melisma.evaluate.metrics.score_adherence import RequestedScoreAttributes
    from melisma.evaluate.models.embeddings import Embedding
    from melisma.evaluate.models.judge import Judge
    from melisma.evaluate.outputs import Making
    from melisma.evaluate.prompts import PairedPiece
    from melisma.evaluate.references.audio import Reference
    from melisma.evaluate.report.card import Card
    from melisma.generation import SoundComposer
    from melisma.generation.score.pipeline import ScoreComposer
    from melisma.values import Score, Waveform

MADE_FOLDER = "pieces"
"""Where a model's outputs are kept beside its card."""
OPEN_FOLDER = "open"
"""Where its outputs to open prompts are kept."""
SCORE_SECONDS = 30.0
"""Length of composed scores that are judged (chosen: `melisma compose` without a length)."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Everything that was asked for, checked."""

    folder: Path | None
    """Pieces to judge; None: outputs of the model."""
    model: str
    engine: str
    """"sound" or "score"."""
    prompts: Path | None
    subset: str
    """Of MusicCaps."""
    reference: str
    """A file, a folder of sound, "default" or "none"."""
    embeddings: tuple[str, ...]
    """Empty: our own."""
    count: int
    opened: int
    """Open prompts for the section on bias."""
    seconds: float
    best_of: int | None
    drawing: dict[str, float | int]
    """Only the settings of drawing that were given."""
    precision: str | None
    """Of the weights that draw; None: what the model likes."""
    seed: int
    threads: int | None
    output: Path
    command: str
    problems: list[str] = field(default_factory=list)
    """Sentences for what was asked for and cannot be done; filled on the way."""


def run_evaluation(order: EvaluationRequest, progress: Progress) -> Card:
    """Makes what is to be judged, judges it, and returns the card."""
    if order.threads is not None:
        import torch

        torch.set_num_threads(order.threads)
    judges = gather_judges(order)
    if order.folder is not None:
        return _judge_folder(order, order.folder, judges, progress)
    if order.engine == "score":
        return _judge_scores_of_model(order, judges, progress)
    return _judge_sounds_of_model(order, judges, progress)


def gather_judges(order: EvaluationRequest) -> Judges:
    """The judge, the embeddings, the references and the indexes that the model has."""
    from melisma.evaluate.assess import Judges
    from melisma.evaluate.models.judge import CHECKPOINT_NAME, Judge
    from melisma.evaluate.references.score import FILE_NAME, read_score_reference
    from melisma.generation.loading import model_folder

    model, shipped = _home(order.model), model_folder("default")
    place = model if (model / CHECKPOINT_NAME).is_file() else shipped
    judge = Judge.read(place)
    embeddings = _embeddings(order, judge)
    scores = _first_file(FILE_NAME, model, shipped)
    return Judges(
        judge=judge,
        embeddings=embeddings,
        reference=_reference(order, judge, embeddings),
        scores=None if scores is None else read_score_reference(scores),
        nearest_clip=_nearest_clip(model),
        nearest_tune=_nearest_tune(model),
    )


def _home(model: str) -> Path:
    """The folder where a model's own judges may lie; a published model has none of its own."""
    from melisma.generation.loading import is_published_model, model_folder

    return model_folder("default" if is_published_model(model) else model)


def known_reference(place: str, card: Card) -> Reference | None:
    """The reference set that a card was compared with, where it can be found."""
    from melisma.evaluate.references.audio import FILE_NAME, read_reference
    from melisma.generation.loading import model_folder

    path = model_folder("default") / FILE_NAME if place == "default" else Path(place)
    if path.is_dir():
        path = path / FILE_NAME
    if place == "none" or not path.is_file():
        return None
    reference = read_reference(path)
    return reference if reference.digest in card.protocol.reference_hash.split() else None


def _first_file(name: str, *folders: Path) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _embeddings(order: EvaluationRequest, judge: Judge) -> tuple[Embedding, ...]:
    """Those that can be had; a sentence for each of the others."""
    from melisma.evaluate.models.embeddings import OWN_EMBEDDINGS, named_embedding

    found = []
    for name in order.embeddings or OWN_EMBEDDINGS:
        try:
            found.append(named_embedding(name, model=str(_home(order.model)), judge=judge))
        except (ValueError, OSError) as error:
            order.problems.append(f"The embedding {name} was left out: {error}")
    if not found:
        raise ValueError("; ".join(order.problems))
    return tuple(found)


def _reference(
    order: EvaluationRequest, judge: Judge, embeddings: Sequence[Embedding]
) -> Reference | None:
    """The reference set, as far as it was measured by these judges."""
    from melisma.evaluate.references.audio import FILE_NAME, read_reference
    from melisma.generation.loading import model_folder

    if order.reference == "none":
        return None
    path: Path | None = Path(order.reference)
    if order.reference == "default":
        path = _first_file(FILE_NAME, _home(order.model), model_folder("default"))
    if path is None or not path.exists():
        order.problems.append(
            "There is no reference set: `melisma train reference` makes one, --reference names one."
        )
        return None
    if path.is_dir():
        return _reference_of_folder(order, path, judge, embeddings)
    prints = {one.name: one.fingerprint for one in embeddings}
    reference, told = read_reference(path).fit(judge.fingerprint, prints)
    order.problems.extend(told)
    return reference


def _reference_of_folder(
    order: EvaluationRequest, folder: Path, judge: Judge, embeddings: Sequence[Embedding]
) -> Reference:
    """A folder of real sound, measured now, through the model's codec as well."""
    from melisma.evaluate.measured import judged_part
    from melisma.evaluate.prompts import SOUND_ENDINGS, pair_prompts
    from melisma.evaluate.references.audio import TruePiece, measure_reference
    from melisma.files import read_audio
    from melisma.generation import load_codec
    from melisma.values import Facts

    pieces, _ = pair_prompts(folder, None, SOUND_ENDINGS)
    codec = load_codec(str(_home(order.model)))
    true = []
    for piece in pieces:
        try:
            sound = judged_part(read_audio(piece.path), order.seconds)
        except (ValueError, OSError) as error:
            order.problems.append(f"{piece.name} of the reference was left out: {error}")
            continue
        words = piece.words or ""
        true.append(TruePiece(sound=sound, words=words, facts=Facts(), group=piece.name))
    levels = 4

    def through_codec(sound: Waveform) -> Waveform:
        return codec.decode(codec.encode(sound, levels))

    return measure_reference(
        folder.name,
        true,
        through_codec,
        judge,
        embeddings,
        codec_fingerprint=codec.codec.fingerprint,
        levels=levels,
    )


def _nearest_clip(model: Path) -> Callable[[Waveform], Resemblance] | None:
    """What training clips a sound is near to."""
    from melisma.generation.originality import SoundOriginality

    found = SoundOriginality.read(model)
    return None if found is None else found.resemblance


def _nearest_tune(model: Path) -> Callable[[Score], SharedRun] | None:
    """What training pieces a score is near to."""
    from melisma.generation.originality import ScoreOriginality

    found = ScoreOriginality.read(model)
    return None if found is None else found.shared


def _occasion(
    order: EvaluationRequest,
    title: str,
    label: str,
    judged: dict[str, str],
    prompts: str,
    *,
    decoded: bool = False,
) -> RunInfo:
    from melisma.evaluate.assess import RunInfo

    return RunInfo(
        title=title,
        label=label,
        judged=judged,
        prompts=prompts,
        command=order.command,
        decoded=decoded,
        seed=order.seed,
        seconds=order.seconds,
        problems=tuple(order.problems),
    )


def _parts(progress: Progress, share: float) -> tuple[Progress, Progress]:
    """Progress of making, up to `share`, and of judging."""
    return lambda part: progress(share * part), lambda part: progress(share + (1 - share) * part)


# --- Outputs of a model --------------------------------------------------------------------------


def _judged_model(
    composer: SoundComposer | ScoreComposer, making: Making, order: EvaluationRequest
) -> dict[str, str]:
    """What names the outputs of a model, for the card."""
    return {
        "model": composer.name,
        "fingerprint": composer.fingerprint,
        "licence": composer.licence,
        "best of": str(making.best_of),
        "seed": str(making.seed),
        **({} if order.precision is None else {"precision": order.precision}),
        **{name.replace("_", " "): f"{value:g}" for name, value in order.drawing.items()},
    }


def _judge_sounds_of_model(order: EvaluationRequest, judges: Judges, progress: Progress) -> Card:
    from melisma.evaluate.assess import assess_sound
    from melisma.evaluate.outputs import Making, make_sounds
    from melisma.evaluate.sections.bias import open_prompts
    from melisma.generation import Composer, load

    composer = load(order.model, precision=order.precision)
    words, wishes, twins, name = _sound_prompts(order, judges)
    # Without real music beside them habits say nothing.
    opened = [] if judges.reference is None else open_prompts(order.opened)
    best_of = order.best_of or composer.best_of
    making = Making(seconds=order.seconds, best_of=best_of, seed=order.seed)
    share = len(words) / max(len(words) + len(opened), 1)
    make, judge = _parts(progress, 0.7)
    first, second = _parts(make, share)
    drawing = composer.drawing(order.drawing)
    made, habits = (
        make_sounds(composer, texts, order.output / name, making, drawing, tell)
        for texts, name, tell in ((words, MADE_FOLDER, first), (opened, OPEN_FOLDER, second))
    )
    given = [
        _given_sound(path, path.name, prompt, wish, twin)
        for path, prompt, wish, twin in zip(made, words, wishes, twins, strict=True)
    ]
    others = [
        _given_sound(path, f"{OPEN_FOLDER}/{path.name}", prompt, None, None)
        for path, prompt in zip(habits, opened, strict=True)
    ]
    judged = _judged_model(composer, making, order)
    title = f"Sound drawn by {composer.name}"
    ours = isinstance(composer, Composer)
    occasion = _occasion(order, title, composer.name, judged, name, decoded=ours)
    card, problems = assess_sound(given, others, judges, occasion, judge)
    order.problems.extend(problems)
    return card


def _sound_prompts(
    order: EvaluationRequest, judges: Judges
) -> tuple[list[str], list[RequestedAttributes | None], list[int | None], str]:
    """Words, wishes and twins in the reference set, and the name of the list."""
    from melisma.evaluate.metrics.adherence import stated_attributes
    from melisma.evaluate.prompts import read_prompts

    reference = judges.reference
    if order.prompts is None:
        if reference is None:
            told = " ".join(order.problems)
            raise ValueError(f"there are no prompts: give --prompts FILE. {told}")
        chosen = reference.first(order.count)
        asked: list[RequestedAttributes | None] = [*chosen.requested()]
        return list(chosen.prompts), asked, [*range(len(chosen))], reference.name
    rows = read_prompts(order.prompts, order.subset)[: order.count]
    words = [row.words for row in rows]
    wishes: list[RequestedAttributes | None] = [stated_attributes(text) for text in words]
    return words, wishes, _twins(words, reference), order.prompts.name


def _twins(words: Sequence[str], reference: Reference | None) -> list[int | None]:
    """The piece of the reference set that has the same words."""
    known = () if reference is None else reference.prompts
    places = {text: place for place, text in enumerate(known) if text}
    return [places.get(text) for text in words]


def _given_sound(
    path: Path, name: str, prompt: str, wish: RequestedAttributes | None, twin: int | None
) -> SoundToJudge:
    from melisma.evaluate.assess import SoundToJudge
    from melisma.files import read_audio

    return SoundToJudge(
        name=name, prompt=prompt, wish=wish, twin=twin, read=partial(read_audio, path)
    )


def _judge_scores_of_model(order: EvaluationRequest, judges: Judges, progress: Progress) -> Card:
    from melisma.evaluate.assess import assess_scores
    from melisma.evaluate.outputs import Making, make_scores
    from melisma.generation import ScoreSampling, load_scores

    composer = load_scores(order.model, precision=order.precision)
    wishes, name = _score_wishes(order)
    making = Making(seconds=SCORE_SECONDS, best_of=order.best_of or 8, seed=order.seed)
    make, judge = _parts(progress, 0.7)
    words = [wish.words for wish in wishes]
    drawing = replace(ScoreSampling(), **order.drawing)
    paths = make_scores(composer, words, order.output / MADE_FOLDER, making, drawing, make)
    given = [
        _given_score(path, path.name, wish.words, wish)
        for path, wish in zip(paths, wishes, strict=True)
    ]
    judged = _judged_model(composer, making, order)
    occasion = _occasion(order, f"Scores by {composer.name}", composer.name, judged, name)
    card, problems = assess_scores(given, judges, occasion, judge)
    order.problems.extend(problems)
    return card


def _score_wishes(order: EvaluationRequest) -> tuple[list[RequestedScoreAttributes], str]:
    """The shipped prompts with what each asks for, or a list of the caller's."""
    from melisma.evaluate.metrics.score_adherence import (
        read_score_requests,
        score_prompts_file,
        stated_score_attributes,
    )
    from melisma.evaluate.prompts import read_prompts

    if order.prompts is None:
        return read_score_requests(score_prompts_file())[: order.count], "Melisma's score prompts"
    rows = read_prompts(order.prompts, order.subset)[: order.count]
    return [stated_score_attributes(row.words) for row in rows], order.prompts.name


def _given_score(
    path: Path, name: str, prompt: str, wish: RequestedScoreAttributes
) -> ScoreToJudge:
    from melisma.evaluate.assess import ScoreToJudge
    from melisma.symbolic.midi import midi_bytes, read_midi

    return ScoreToJudge(
        name=name,
        prompt=prompt,
        wish=wish,
        read=lambda: read_midi(midi_bytes(path)),
        render=_rendered,
    )


def _rendered(score: Score) -> Waveform:
    from melisma.symbolic.render import render_score

    return render_score(score).mix


# --- Folders -------------------------------------------------------------------------------------


def _judge_folder(
    order: EvaluationRequest, folder: Path, judges: Judges, progress: Progress
) -> Card:
    """Sound or MIDI, whichever the folder holds more of."""
    from melisma.evaluate.assess import assess_scores, assess_sound
    from melisma.evaluate.prompts import MIDI_ENDINGS, pair_prompts

    pieces, told = pair_prompts(folder, order.prompts)
    order.problems.extend(told)
    scores = [one for one in pieces if one.path.suffix.lower() in MIDI_ENDINGS]
    sounds = [one for one in pieces if one not in scores]
    if scores and sounds:
        left = "sound files" if len(scores) >= len(sounds) else "MIDI files"
        order.problems.append(f"The {left} of the folder were not judged: a card is of one kind.")
    judged = {"folder": folder.name}
    prompts = "the files' own" if order.prompts is None else order.prompts.name
    if len(pieces) == 1:
        order.problems.append("The folder holds one piece: what is said of sets was left out.")
    occasion = _occasion(order, f"The folder {folder.name}", "outputs", judged, prompts)
    if len(scores) >= len(sounds):
        given = [_folder_score(one) for one in scores[: order.count]]
        card, problems = assess_scores(given, judges, occasion, progress)
    else:
        known = _twins([one.words or "" for one in sounds], judges.reference)
        wishes = [] if judges.reference is None else judges.reference.requested()
        heard = [_folder_sound(one, twin, wishes) for one, twin in zip(sounds, known, strict=True)][
            : order.count
        ]
        card, problems = assess_sound(heard, [], judges, occasion, progress)
    order.problems.extend(problems)
    return card


def _folder_sound(
    piece: PairedPiece, twin: int | None, wishes: Sequence[RequestedAttributes]
) -> SoundToJudge:
    """A sound of a folder; `wishes` are those of the reference set."""
    from melisma.evaluate.metrics.adherence import stated_attributes

    words = piece.words or ""
    wish = wishes[twin] if twin is not None else stated_attributes(words) if words else None
    return _given_sound(piece.path, piece.name, words, wish, twin)


def _folder_score(piece: PairedPiece) -> ScoreToJudge:
    """A score of a folder."""
    from melisma.evaluate.metrics.score_adherence import stated_score_attributes

    words = piece.words or ""
    wish = stated_score_attributes(words)
    return _given_score(piece.path, piece.name, words, wish)
