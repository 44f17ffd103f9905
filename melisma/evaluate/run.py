"""Runs an evaluation: gathers judges, references and pieces with their prompts, and judges them.

Heavy imports are made where they are needed, so that a request is checked without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.generation.pipeline import Progress
from melisma.generation.resolve import local_model, model_folder
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef
from melisma.values.sampling import SamplingParams

if TYPE_CHECKING:
    from melisma.analysis.similarity.clip_index import Resemblance
    from melisma.analysis.similarity.melody_index import SharedRun
    from melisma.evaluate.assess import Judges, RunInfo, ScoreToJudge, SoundToJudge
    from melisma.evaluate.metrics.adherence import RequestedAttributes
    from melisma.evaluate.metrics.score_adherence import RequestedScoreAttributes
    from melisma.evaluate.models.embeddings import Embedding
    from melisma.evaluate.models.judge import Judge
    from melisma.evaluate.outputs import OutputSettings
    from melisma.evaluate.prompts import PairedPiece
    from melisma.evaluate.references.audio import Reference
    from melisma.evaluate.report.card import Card
    from melisma.generation.pipeline import AudioPipeline
    from melisma.generation.score.pipeline import ScorePipeline
    from melisma.values import Score, Waveform

MADE_FOLDER = "pieces"
"""Where a model's outputs are kept beside its card."""
OPEN_FOLDER = "open"
"""Where its outputs to open prompts are kept."""
SCORE_SECONDS = 30.0
"""Length of composed scores that are judged (chosen: `melisma compose` without a length)."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What is to be evaluated, and how."""

    folder: Path | None
    """Pieces to judge; None: outputs of the model."""
    model: ModelRef
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
    sampling: SamplingParams
    """Parameters that differ from the model's defaults."""
    precision: str | None
    """Of the language models' weights; None: the model's default."""
    seed: int
    threads: int | None
    output: Path
    command: str
    problems: list[str] = field(default_factory=list)
    """Sentences about what was requested and cannot be done; filled on the way."""


def run_evaluation(request: EvaluationRequest, progress: Progress) -> Card:
    """Makes what is to be judged, judges it, and returns the card.

    Args:
        request: What is to be evaluated; its `problems` are filled.
        progress: Called with the finished share, 0 to 1.

    Raises:
        MelismaError: Nothing can be judged.
    """
    if request.threads is not None:
        import torch

        torch.set_num_threads(request.threads)
    judges = gather_judges(request)
    if request.folder is not None:
        return _judge_folder(request, request.folder, judges, progress)
    if request.engine == "score":
        return _judge_scores_of_model(request, judges, progress)
    return _judge_sounds_of_model(request, judges, progress)


def gather_judges(request: EvaluationRequest) -> Judges:
    """The judge, the embeddings, the references and the indexes that the model has."""
    from melisma.evaluate.assess import Judges
    from melisma.evaluate.models.judge import CHECKPOINT_NAME, Judge
    from melisma.evaluate.references.score import FILE_NAME, read_score_reference

    model, shipped = _home(request.model), model_folder("default")
    folder = model if (model / CHECKPOINT_NAME).is_file() else shipped
    judge = Judge.read(folder)
    embeddings = _embeddings(request, judge)
    scores = _first_file(FILE_NAME, model, shipped)
    return Judges(
        judge=judge,
        embeddings=embeddings,
        reference=_reference(request, judge, embeddings),
        scores=None if scores is None else read_score_reference(scores),
        nearest_clip=_nearest_clip(model),
        nearest_tune=_nearest_tune(model),
    )


def _home(model: ModelRef) -> Path:
    """The folder where a model's own judges may lie; MusicGen has none of its own."""
    return model_folder("default") if model.family == "musicgen" else model.files


def known_reference(place: str, card: Card) -> Reference | None:
    """The reference set that a card was compared with, where it can be found."""
    from melisma.evaluate.references.audio import FILE_NAME, read_reference

    path = model_folder("default") / FILE_NAME if place == "default" else Path(place)
    if path.is_dir():
        path = path / FILE_NAME
    if place == "none" or not path.is_file():
        return None
    reference = read_reference(path)
    return reference if reference.digest in card.protocol.reference_hash.split() else None


def _first_file(name: str, *folders: Path) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _embeddings(request: EvaluationRequest, judge: Judge) -> tuple[Embedding, ...]:
    """Those that can be had; a sentence for each of the others."""
    from melisma.evaluate.models.embeddings import OWN_EMBEDDINGS, named_embedding

    found = []
    for name in request.embeddings or OWN_EMBEDDINGS:
        try:
            found.append(named_embedding(name, model=str(_home(request.model)), judge=judge))
        except (MelismaError, OSError) as error:
            request.problems.append(f"The embedding {name} was left out: {error}")
    if not found:
        raise MelismaError("; ".join(request.problems))
    return tuple(found)


def _reference(
    request: EvaluationRequest, judge: Judge, embeddings: Sequence[Embedding]
) -> Reference | None:
    """The reference set, as far as it was measured by these judges."""
    from melisma.evaluate.references.audio import FILE_NAME, read_reference

    if request.reference == "none":
        return None
    path: Path | None = Path(request.reference)
    if request.reference == "default":
        path = _first_file(FILE_NAME, _home(request.model), model_folder("default"))
    if path is None or not path.exists():
        request.problems.append(
            "There is no reference set: `melisma train reference` makes one, --reference names one."
        )
        return None
    if path.is_dir():
        return _reference_of_folder(request, path, judge, embeddings)
    fingerprints = {one.name: one.fingerprint for one in embeddings}
    reference, remarks = read_reference(path).fit(judge.fingerprint, fingerprints)
    request.problems.extend(remarks)
    return reference


def _reference_of_folder(
    request: EvaluationRequest, folder: Path, judge: Judge, embeddings: Sequence[Embedding]
) -> Reference:
    """A folder of real sound, measured now, through the model's codec as well."""
    from melisma.evaluate.measured import judged_part
    from melisma.evaluate.prompts import SOUND_ENDINGS, pair_prompts
    from melisma.evaluate.references.audio import TruePiece, measure_reference
    from melisma.generation.loading import load_codec
    from melisma.recordings import read_and_repair
    from melisma.values import Facts

    pieces, _ = pair_prompts(folder, None, SOUND_ENDINGS)
    codec = load_codec(str(_home(request.model)))
    true = []
    for piece in pieces:
        try:
            found = read_and_repair(piece.path, first_seconds=request.seconds)
            sound = judged_part(found.waveform, request.seconds)
        except (MelismaError, OSError) as error:
            request.problems.append(f"{piece.name} of the reference was left out: {error}")
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
    from melisma.generation.originality import ClipOriginality

    found = ClipOriginality.read(model)
    return None if found is None else found.resemblance


def _nearest_tune(model: Path) -> Callable[[Score], SharedRun] | None:
    """What training pieces a score is near to."""
    from melisma.generation.originality import MelodyOriginality

    found = MelodyOriginality.read(model)
    return None if found is None else found.shared


def _run_info(
    request: EvaluationRequest,
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
        command=request.command,
        decoded=decoded,
        seed=request.seed,
        seconds=request.seconds,
        problems=tuple(request.problems),
    )


def _parts(progress: Progress, share: float) -> tuple[Progress, Progress]:
    """Progress of making, up to `share`, and of judging."""
    return lambda part: progress(share * part), lambda part: progress(share + (1 - share) * part)


# --- Outputs of a model --------------------------------------------------------------------------


def _judged_model(
    pipeline: AudioPipeline | ScorePipeline, making: OutputSettings, request: EvaluationRequest
) -> dict[str, str]:
    """What names the outputs of a model, for the card."""
    return {
        "model": pipeline.name,
        "fingerprint": pipeline.fingerprint,
        "licence": pipeline.licence,
        "best of": str(making.best_of),
        "seed": str(making.seed),
        **({} if request.precision is None else {"precision": request.precision}),
        **{name.replace("_", " "): f"{value:g}" for name, value in request.sampling.flat().items()},
    }


def _judge_sounds_of_model(request: EvaluationRequest, judges: Judges, progress: Progress) -> Card:
    from melisma.evaluate.assess import assess_sound
    from melisma.evaluate.outputs import OutputSettings, make_sounds
    from melisma.evaluate.sections.bias import open_prompts
    from melisma.generation.loading import load
    from melisma.generation.musiclm import MusicLM

    pipeline = load(local_model(request.model), precision=request.precision)
    words, requested, pairs, name = _sound_prompts(request, judges)
    # Without real music beside them habits say nothing.
    opened = [] if judges.reference is None else open_prompts(request.opened)
    best_of = request.best_of or pipeline.best_of
    making = OutputSettings(seconds=request.seconds, best_of=best_of, seed=request.seed)
    share = len(words) / max(len(words) + len(opened), 1)
    make, judge = _parts(progress, 0.7)
    first, second = _parts(make, share)
    made, habits = (
        make_sounds(pipeline, texts, request.output / name, making, request.sampling, report)
        for texts, name, report in ((words, MADE_FOLDER, first), (opened, OPEN_FOLDER, second))
    )
    pieces_to_judge = [
        _sound_to_judge(request, path, path.name, prompt, one_request, index)
        for path, prompt, one_request, index in zip(made, words, requested, pairs, strict=True)
    ]
    others = [
        _sound_to_judge(request, path, f"{OPEN_FOLDER}/{path.name}", prompt, None, None)
        for path, prompt in zip(habits, opened, strict=True)
    ]
    judged = _judged_model(pipeline, making, request)
    title = f"Sound by {pipeline.name}"
    ours = isinstance(pipeline, MusicLM)
    info = _run_info(request, title, pipeline.name, judged, name, decoded=ours)
    card, problems = assess_sound(pieces_to_judge, others, judges, info, judge)
    request.problems.extend(problems)
    return card


def _sound_prompts(
    request: EvaluationRequest, judges: Judges
) -> tuple[list[str], list[RequestedAttributes | None], list[int | None], str]:
    """Words, requested and pairs in the reference set, and the name of the list."""
    from melisma.evaluate.metrics.adherence import stated_attributes
    from melisma.evaluate.prompts import read_prompts

    reference = judges.reference
    if request.prompts is None:
        if reference is None:
            remarks = " ".join(request.problems)
            raise MelismaError(f"there are no prompts: give --prompts FILE. {remarks}")
        chosen = reference.first(request.count)
        requested: list[RequestedAttributes | None] = [*chosen.requested()]
        return list(chosen.prompts), requested, [*range(len(chosen))], reference.name
    rows = read_prompts(request.prompts, request.subset)[: request.count]
    words = [row.words for row in rows]
    requested: list[RequestedAttributes | None] = [stated_attributes(text) for text in words]
    return words, requested, _reference_indices(words, reference), request.prompts.name


def _reference_indices(words: Sequence[str], reference: Reference | None) -> list[int | None]:
    """The piece of the reference set that has the same words."""
    known = () if reference is None else reference.prompts
    indices = {text: place for place, text in enumerate(known) if text}
    return [indices.get(text) for text in words]


def _sound_to_judge(
    request: EvaluationRequest,
    path: Path,
    name: str,
    prompt: str,
    one_request: RequestedAttributes | None,
    index: int | None,
) -> SoundToJudge:
    from melisma.evaluate.assess import SoundToJudge
    from melisma.files.audio.reading import read_recording

    return SoundToJudge(
        name=name,
        prompt=prompt,
        requested=one_request,
        reference_index=index,
        read=partial(read_recording, path, first_seconds=request.seconds),
    )


def _judge_scores_of_model(request: EvaluationRequest, judges: Judges, progress: Progress) -> Card:
    from melisma.evaluate.assess import assess_scores
    from melisma.evaluate.outputs import OutputSettings, make_scores
    from melisma.generation.loading import load_scores

    pipeline = load_scores(request.model, precision=request.precision)
    requested, name = _score_requests(request)
    making = OutputSettings(seconds=SCORE_SECONDS, best_of=request.best_of or 8, seed=request.seed)
    make, judge = _parts(progress, 0.7)
    words = [one_request.words for one_request in requested]
    paths = make_scores(
        pipeline, words, request.output / MADE_FOLDER, making, request.sampling, make
    )
    pieces_to_judge = [
        _score_to_judge(path, path.name, one_request.words, one_request)
        for path, one_request in zip(paths, requested, strict=True)
    ]
    judged = _judged_model(pipeline, making, request)
    info = _run_info(request, f"Scores by {pipeline.name}", pipeline.name, judged, name)
    card, problems = assess_scores(pieces_to_judge, judges, info, judge)
    request.problems.extend(problems)
    return card


def _score_requests(request: EvaluationRequest) -> tuple[list[RequestedScoreAttributes], str]:
    """The shipped prompts with what each asks for, or a list of the caller's."""
    from melisma.evaluate.metrics.score_adherence import (
        read_score_requests,
        score_prompts_file,
        stated_score_attributes,
    )
    from melisma.evaluate.prompts import read_prompts

    if request.prompts is None:
        return read_score_requests(score_prompts_file())[: request.count], "Melisma's score prompts"
    rows = read_prompts(request.prompts, request.subset)[: request.count]
    return [stated_score_attributes(row.words) for row in rows], request.prompts.name


def _score_to_judge(
    path: Path, name: str, prompt: str, one_request: RequestedScoreAttributes
) -> ScoreToJudge:
    from melisma.evaluate.assess import ScoreToJudge
    from melisma.symbolic.midi import midi_bytes, read_midi

    return ScoreToJudge(
        name=name,
        prompt=prompt,
        requested=one_request,
        read=lambda: read_midi(midi_bytes(path)),
        render=_rendered,
    )


def _rendered(score: Score) -> Waveform:
    from melisma.symbolic.render import render_score

    return render_score(score).mix


# --- Folders -------------------------------------------------------------------------------------


def _judge_folder(
    request: EvaluationRequest, folder: Path, judges: Judges, progress: Progress
) -> Card:
    """Sound or MIDI, whichever the folder holds more of."""
    from melisma.evaluate.assess import assess_scores, assess_sound
    from melisma.evaluate.prompts import pair_prompts
    from melisma.files.audio.formats import MIDI_ENDINGS

    pieces, remarks = pair_prompts(folder, request.prompts)
    request.problems.extend(remarks)
    scores = [one for one in pieces if one.path.suffix.lower() in MIDI_ENDINGS]
    sounds = [one for one in pieces if one not in scores]
    if scores and sounds:
        left = "sound files" if len(scores) >= len(sounds) else "MIDI files"
        request.problems.append(f"The {left} of the folder were not judged: a card is of one kind.")
    judged = {"folder": folder.name}
    prompts = "the files' own" if request.prompts is None else request.prompts.name
    if len(pieces) == 1:
        request.problems.append("The folder holds one piece: what is said of sets was left out.")
    info = _run_info(request, f"The folder {folder.name}", "outputs", judged, prompts)
    if len(scores) >= len(sounds):
        pieces_to_judge = [_folder_score(one) for one in scores[: request.count]]
        card, problems = assess_scores(pieces_to_judge, judges, info, progress)
    else:
        known = _reference_indices([one.words or "" for one in sounds], judges.reference)
        requested = [] if judges.reference is None else judges.reference.requested()
        sounds_to_judge = [
            _folder_sound(request, one, index, requested)
            for one, index in zip(sounds, known, strict=True)
        ][: request.count]
        card, problems = assess_sound(sounds_to_judge, [], judges, info, progress)
    request.problems.extend(problems)
    return card


def _folder_sound(
    request: EvaluationRequest,
    piece: PairedPiece,
    index: int | None,
    requested: Sequence[RequestedAttributes],
) -> SoundToJudge:
    """A sound of a folder; `requested` are those of the reference set."""
    from melisma.evaluate.metrics.adherence import stated_attributes

    words = piece.words or ""
    one_request = (
        requested[index] if index is not None else stated_attributes(words) if words else None
    )
    return _sound_to_judge(request, piece.path, piece.name, words, one_request, index)


def _folder_score(piece: PairedPiece) -> ScoreToJudge:
    """A score of a folder."""
    from melisma.evaluate.metrics.score_adherence import stated_score_attributes

    words = piece.words or ""
    one_request = stated_score_attributes(words)
    return _score_to_judge(piece.path, piece.name, words, one_request)
