"""Which options each kind of model takes: one table, from which every refusal comes.

An option that a model cannot honour is refused before anything is loaded, never ignored. The
command line asks by the options that were typed, `MelismaPipeline` by what a request holds, so that
the Python API refuses the same. Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from melisma.values.errors import MelismaError, unknown_name
from melisma.values.sampling import STAGES

if TYPE_CHECKING:
    from melisma.generation.catalogue import ModelFacts
    from melisma.generation.requests.audio import AudioRequest

Kind = Literal["two stages", "three stages", "captions", "musicgen", "musicgen melody", "scores"]
"""Kinds of models: ours without and with a fine stage, ours of one stage that reads captions (the
recipe *single*, or a coarse stage alone), MusicGen (mono and stereo), its melody models, and score
models."""
KINDS: tuple[Kind, ...] = (
    "two stages", "three stages", "captions", "musicgen", "musicgen melody", "scores",
)  # fmt: skip
Task = Literal["new", "continue", "infill", "melody"]
"""What the score model does: a new piece, a continuation, bars that are rewritten, or an
accompaniment."""

_STAGED: tuple[Kind, ...] = ("two stages", "three stages")
_OURS: tuple[Kind, ...] = (*_STAGED, "captions")
_MUSICGEN: tuple[Kind, ...] = ("musicgen", "musicgen melody")
_SOUND: tuple[Kind, ...] = (*_OURS, *_MUSICGEN)
_SINGLE: tuple[Kind, ...] = ("captions", *_MUSICGEN)
_FOLLOWING: tuple[Kind, ...] = (*_OURS, "musicgen melody")

TAKEN_BY: Mapping[str, tuple[Kind, ...]] = {
    # What is played. Models that read words alone get exact settings as words (`spoken.py`).
    "bpm": KINDS,
    "key": KINDS,
    "time_signature": KINDS,
    "instruments": ("scores",),
    "style": ("scores",),
    "without": (*_OURS, "scores"),
    "melody": (*_FOLLOWING, "scores"),
    "continue_from": KINDS,
    "keep_seconds": _SOUND,
    "whole": _SOUND,
    "infill": ("scores",),
    # How long.
    "duration": KINDS,
    "bars": ("scores",),
    # How it is sampled and chosen.
    "seed": KINDS,
    "best_of": KINDS,
    "rank": _SOUND,
    "original": (*_OURS, "scores"),
    "receipt": KINDS,
    "guidance": KINDS,
    "guidance_semantic": _STAGED,
    "guidance_coarse": _STAGED,
    "temperature_semantic": _STAGED,
    "top_k_semantic": _STAGED,
    "temperature_coarse": _OURS,
    "top_k_coarse": _OURS,
    "temperature_fine": ("three stages",),
    "temperature": (*_SINGLE, "scores"),
    "top_k": (*_SINGLE, "scores"),
    "top_p": (*_MUSICGEN, "scores"),
    "greedy": ("scores",),
    # What comes out, and on what.
    "stream": _SOUND,
    "audio": ("scores",),
    "stems": ("scores",),
    "soundfont": ("scores",),
    "room": ("scores",),
    "plot": KINDS,
    "precision": KINDS,
    "threads": KINDS,
}
"""Option of `generate` and `compose`, as a name in Python -> the kinds of models that take it."""
ENGINES = ("sound", "score", "auto")
"""What makes the music: the audio models, the score model, or whichever suits the words."""
OF_SAMPLING = frozenset(
    name
    for name in TAKEN_BY
    if name.startswith(("guidance", "temperature", "top_")) or name == "rank"
)
"""Options of `generate` for how audio is sampled: with one, `--engine auto` chooses sound."""


def kind_of(facts: ModelFacts, engine: str = "sound") -> Kind:
    """The kind of a model where it is used as an engine, "sound" or "score".

    Raises:
        MelismaError: The model has no such part.
    """
    if engine == "score":
        if not facts.scores:
            raise MelismaError(
                f"the model {facts.name} has no score_lm.safetensors: it makes audio alone, see "
                "`melisma generate`"
            )
        return "scores"
    if not facts.sound:
        raise MelismaError(
            f"the model {facts.name} makes scores alone: use `melisma compose`, or `melisma "
            "generate --engine score`"
        )
    if facts.single:
        return "musicgen melody" if facts.melody else "musicgen"
    if facts.captions or "semantic" not in facts.stages:
        return "captions"
    return "three stages" if "fine" in facts.stages else "two stages"


def engine_of(facts: ModelFacts, engine: str, given: Collection[str]) -> tuple[str | None, str]:
    """The engine that a request goes to, and why.

    Args:
        facts: Of the model.
        engine: "sound", "score" or "auto".
        given: Names of `TAKEN_BY` that were given.

    Returns:
        "sound" or "score", None where each prompt decides; the reason, empty where there is no
        choice of ours.
    """
    if engine != "auto":
        return engine, ""
    if facts.sound != facts.scores:
        makes = "audio" if facts.sound else "scores"
        return ("sound" if facts.sound else "score"), f"the model makes {makes} alone"
    if for_sound := [name for name in given if name in OF_SAMPLING]:
        return "sound", f"{option_names(for_sound)} applies to the audio models only"
    return None, ""


def check_request(
    facts: ModelFacts, engine: str, given: Collection[str], *, best_of: int | None = None
) -> None:
    """Checks a request to generate audio.

    Args:
        facts: Of the model.
        engine: "sound", "score" or "auto".
        given: Names of `TAKEN_BY` that were given.
        best_of: Candidates for each piece; None: the model's default.

    Raises:
        MelismaError: The model does not take an option, or has no such engine.
    """
    if engine not in ENGINES:
        raise MelismaError(unknown_name("engine", engine, ENGINES))
    chosen, _ = engine_of(facts, engine, given)
    if chosen is None:
        return
    kind = kind_of(facts, chosen)
    check_options(given, kind, facts.name)
    if chosen == "score":
        for_sound = [name for name in given if name in OF_SAMPLING]  # of `compose` they are others
        if for_sound:
            raise MelismaError(_reason(for_sound[0], kind, facts.name))
        return
    candidates = best_of or (1 if "stream" in given else facts.usual_candidates)
    if "rank" in given and candidates == 1:
        raise MelismaError(
            "--rank chooses among the candidates of a piece, and there is one: add --best-of 2 or "
            "more"
        )


def options_of(request: AudioRequest) -> list[str]:
    """Names of `TAKEN_BY` that a request to generate audio makes use of."""
    given = [] if request.sampling is None else list(request.sampling.flat())
    context = request.context
    uses = {
        "rank": request.rank != "words",
        "original": request.original,
        "without": any(prompt.without for prompt in request.prompts),
        "melody": context is not None and context.melody is not None,
    }
    given += [name for name, is_used in uses.items() if is_used]
    return [name for name in given if name in TAKEN_BY]


TASKS_OF: Mapping[str, tuple[Task, ...]] = {
    "bars": ("new", "continue"),
    "duration": ("new", "continue"),
    "bpm": ("new", "continue", "melody"),
    "time_signature": ("new", "continue", "melody"),
    "instruments": ("new", "melody"),
}
"""Option of `compose` -> the tasks that it changes; all others change every task."""


def task_of(melody: object, continue_from: object, infill: object) -> Task:
    """What the score model is to do, by what is given to it; None: not given."""
    if continue_from is not None and infill is None:
        return "continue"
    return "melody" if melody is not None else "new" if infill is None else "infill"


def check_task(task: Task, options: Mapping[str, object]) -> None:
    """Checks that every option has a place in a task of the score model.

    Args:
        task: A new piece, a continuation, bars that are rewritten, or an accompaniment.
        options: By their names in Python; None: not given.

    Raises:
        MelismaError: One has none; the message says why.
    """
    for option, value in options.items():
        if value is None or task in TASKS_OF.get(option, (task,)):
            continue
        name = option_names([option])
        if task == "melody":
            raise MelismaError(f"an accompaniment is as long as its melody: leave out {name}")
        if task == "continue":
            raise MelismaError(
                f"a continuation is played by the parts of the given piece: leave out {name}"
            )
        kept = {"bars": "length", "duration": "length", "bpm": "tempo", "instruments": "parts"}
        raise MelismaError(
            f"bars that are rewritten keep the {kept.get(option, 'metre')} that they have: leave "
            f"out {name}"
        )


def check_options(given: Iterable[str], kind: Kind, name: str) -> None:
    """Checks that a model takes all options that were given.

    Args:
        given: Names of `TAKEN_BY`.
        kind: Of the model.
        name: Of the model, for the message.

    Raises:
        MelismaError: It does not; the message says what to do.
    """
    refused = [option for option in given if kind not in TAKEN_BY[option]]
    if refused:
        reasons = dict.fromkeys(_reason(option, kind, name) for option in refused)
        raise MelismaError("; ".join(reasons))


def option_names(options: Collection[str]) -> str:
    """The names on the command line, e.g. "--top-k, --top-p"."""
    return ", ".join("--" + option.replace("_", "-") for option in options)


def _reason(option: str, kind: Kind, name: str) -> str:
    """Why a kind of model does not take an option, and what to do."""
    words, stage = option_names([option]), option.rpartition("_")[2]
    if kind == "scores":
        return (
            f"{words} applies to the audio models only: leave it out, or leave out --engine score; "
            "`melisma compose` has options for scores"
        )
    if option == "melody":
        return (
            f"{name} never learned to follow a tune: leave out {words}, or use a melody model such "
            "as facebook/musicgen-melody"
        )
    if option == "without":
        return (
            f"{name} plays what its words name and cannot exclude anything: leave out {words}, and "
            "name what is to play"
        )
    if option == "original":
        return (
            f"{name} has no originality index, as its training data is not public: leave out "
            f"{words}"
        )
    if stage in STAGES and kind in _SINGLE:
        plain = option_names([option.removesuffix(f"_{stage}")])
        return f"{name} is sampled in a single stage: leave out {words}, or use {plain}"
    if stage in STAGES:
        return f"{name} has no {stage} stage: leave out {words}"
    if option in ("temperature", "top_k", "top_p") and kind in _STAGED:
        has = [f"{option}_{one}" for one in STAGES if kind in TAKEN_BY.get(f"{option}_{one}", ())]
        instead = f", or use {option_names(has)}" if has else ""
        return f"{name} is sampled in several stages: leave out {words}{instead}"
    if option == "top_p":
        return f"{name} is not sampled by probability: leave out {words}, or use --top-k"
    return f"{words} applies to scores: leave it out, or use `melisma compose`"
