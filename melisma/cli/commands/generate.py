"""`melisma generate`: from words to sound files."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import melisma
from melisma.cli import options
from melisma.cli.arguments import (
    LARGEST_SEED,
    MOST_CANDIDATES,
    MOST_PIECES,
    check_precision,
    gather_words,
    make_prompts,
    named_model,
    real,
    whole,
)
from melisma.cli.output_paths import PIPE, audio_paths, plot_paths
from melisma.cli.progress import Progress, progress_bar
from melisma.cli.receipts import receipt_lines
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef
from melisma.values.sampling import SamplingParams

if TYPE_CHECKING:
    from melisma.generation.requests.audio import AudioRequest
    from melisma.generation.requests.facade import MelismaPipeline

KEPT_SECONDS = 10.0
"""How much of the end of `--continue-from` a piece begins with by default:
`facade.CONTINUED_SECONDS`, which loads torch."""


def generate(
    prompts: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    duration: options.Duration = 10.0,
    seed: options.Seed = None,
    output: options.Output = None,
    count: options.Count = 1,
    best_of: options.BestOf = None,
    rank: options.Rank = "words",
    receipt: options.Receipt = False,
    original: options.Original = False,
    bpm: options.Bpm = None,
    key: options.Key = None,
    metre: options.Metre = None,
    melody: options.Tune = None,
    continue_from: options.GoOnFrom = None,
    keep_seconds: options.KeepSeconds = None,
    guidance: options.Guidance = None,
    guidance_coarse: options.GuidanceCoarse = None,
    temperature_semantic: options.TemperatureSemantic = None,
    top_k_semantic: options.TopKSemantic = None,
    temperature_coarse: options.TemperatureCoarse = None,
    top_k_coarse: options.TopKCoarse = None,
    temperature_fine: options.TemperatureFine = None,
    temperature: options.SoundTemperature = None,
    top_k: options.SoundTopK = None,
    top_p: options.SoundTopP = None,
    stream: options.Stream = False,
    engine: options.Engine = "sound",
    model: options.Model = "default",
    precision: options.Precision = None,
    form: options.Format = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Make music from words, a melody or a beginning."""
    words = gather_words(prompts or [], prompts_file)
    texts = make_prompts(
        words, count=count, duration_seconds=duration, tempo_bpm=bpm, key=key, metre=metre
    )
    whole("--seed", seed, 0, LARGEST_SEED - MOST_PIECES)
    whole("--best-of", best_of, 1, MOST_CANDIDATES)
    whole("--threads", threads, 1, 1024)
    sampling = _sampling(
        {
            "guidance": guidance,
            "guidance_coarse": guidance_coarse,
            "temperature_semantic": temperature_semantic,
            "temperature_coarse": temperature_coarse,
            "temperature_fine": temperature_fine,
            "top_k_semantic": top_k_semantic,
            "top_k_coarse": top_k_coarse,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
        }
    )
    reference = named_model(model)
    check_precision(precision)
    check_engine(engine, sampling, rank)
    check_context(engine, melody, continue_from, keep_seconds)
    seed = secrets.randbelow(2**31) if seed is None else seed
    piped = stream and output == str(PIPE)
    names = [one.words for one in texts]
    paths = [PIPE] * len(texts) if piped else audio_paths(output, form, names, seed)
    plots = plot_paths(plot, len(texts))
    from melisma.generation.requests.audio import AudioRequest
    from melisma.generation.requests.facade import MelismaPipeline, audio_context, notes_of

    notes = notes_of(
        melody=melody,
        continue_from=continue_from,
        keep_seconds=KEPT_SECONDS if keep_seconds is None else keep_seconds,
        precision=precision,
    )
    request = AudioRequest(
        prompts=tuple(texts),
        seed=seed,
        sampling=SamplingParams.of(sampling),
        best_of=best_of,
        rank=rank,
        context=audio_context(
            melody, continue_from, KEPT_SECONDS if keep_seconds is None else keep_seconds
        ),
        receipt=receipt,
        original=original,
        notes=notes,
    )
    if stream:
        check_stream(request, engine, paths, plots)
    announce(reference)
    pipeline = MelismaPipeline(reference, threads=threads, precision=precision)
    with progress_bar("composing", quiet=quiet) as progress:
        if engine != "score":
            pipeline.expect_memory(request)
        if stream:
            rows = [run_to(pipeline, request, paths[0], progress)]
        else:
            rows = save_all(pipeline, request, engine, paths, plots, progress)
    if not piped:
        _print(rows, as_json=as_json, quiet=quiet)


def save_all(
    pipeline: MelismaPipeline,
    request: AudioRequest,
    engine: str,
    paths: Sequence[Path],
    plots: Sequence[Path | None],
    progress: Progress,
) -> list[dict[str, object]]:
    """Runs a request and writes every piece as soon as it is there; returns the receipts."""
    from melisma.generation.requests.score import ScoreResult

    rows: list[dict[str, object]] = []
    results = pipeline.run(request, engine, progress)
    for path, plot, (result, name, why) in zip(paths, plots, results, strict=True):
        if isinstance(result, ScoreResult):
            row = result.save(path.with_suffix(".mid"), audio=path, plot=plot)
            sound = row["sound"]
            assert isinstance(sound, dict)
            facts = {key: sound[key] for key in ("seconds", "rate_hz", "loudness_lufs")}
            row |= facts | {"path": str(path), "score": row["path"]}
        else:
            row = result.save(path, plot=plot)
        rows.append(row | {"engine": name} | ({"engine_reason": why} if why else {}))
    return rows


def check_stream(
    request: AudioRequest, engine: str, paths: Sequence[Path], plots: Sequence[Path | None]
) -> None:
    """Raise where what was requested needs the whole piece, or more than one."""
    if len(request.prompts) != 1:
        raise MelismaError("--stream writes one piece: give one prompt and no --count")
    if engine != "sound":
        raise MelismaError("--stream writes sound while it is sampled: leave out --engine")
    wants = {
        "--best-of": request.best_of not in (None, 1),
        "--rank": request.rank != "words",
        "--receipt": request.receipt,
        "--original": request.original,
        "--plot": list(plots) != [None],
    }
    if named := [name for name, wanted in wants.items() if wanted]:
        raise MelismaError(
            f"--stream cannot wait for the whole piece: leave out {', '.join(named)}"
        )
    if list(paths) == [PIPE] and sys.stdout.isatty():
        raise MelismaError(
            "--output - writes sound to standard output: send it to a player, e.g. | ffplay -i -"
        )


def run_to(
    pipeline: MelismaPipeline, request: AudioRequest, path: Path, progress: Progress
) -> dict[str, object]:
    """Streams to a file or to standard output; returns the receipt."""
    from melisma.generation.requests.stream import ListenerGone

    try:
        return pipeline.stream(request, sys.stdout.buffer if path == PIPE else path, progress)
    except ListenerGone:
        leave_pipe()
        raise


def leave_pipe() -> None:
    """Nothing more goes to a pipe without a reader, not even when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def announce(model: ModelRef) -> None:
    """Says, before anything is fetched or generated, whose weights these are and what they may be
    used for."""
    if model.family != "musicgen":
        return
    words = (
        f"{model.name}: published weights of MusicGen, licence {model.licence}: no commercial use"
    )
    if model.source == "hub":
        from melisma.files.hub import hub_card

        card = hub_card(model.name)
        if not card.cached:
            size = "" if card.bytes is None else f" ({card.bytes / 1e9:.1f} GB)"
            words += f"; they are fetched from the hub now{size}"
    print(f"melisma: {words}", file=sys.stderr)


def _print(rows: Sequence[dict[str, object]], *, as_json: bool, quiet: bool) -> None:
    """Receipts for machines, or a line for each piece."""
    if as_json:
        document = {"version": melisma.__version__, "pieces": rows}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        for row in rows:
            print(_line(row))


def check_engine(engine: str, sampling: Mapping[str, float | int], rank: str) -> None:
    """Raise unless the engine is known, and the settings given are its own."""
    if engine not in ("sound", "score", "auto"):
        raise MelismaError(f'no engine "{engine}": known are sound, score, auto')
    if engine == "score" and sampling:
        names = ", ".join("--" + name.replace("_", "-") for name in sampling)
        raise MelismaError(
            f"{names} set how sound is sampled: leave them out, or use `melisma compose`, which has "
            "settings for scores"
        )
    if rank not in ("words", "receipt"):
        raise MelismaError(f'no ranking "{rank}": known are words, receipt')
    if engine == "score" and rank != "words":
        raise MelismaError(
            "--rank ranks generated sound: leave it out, scores are ranked by how their notes "
            "adhere to the prompt"
        )


def check_context(
    engine: str, melody: Path | None, beginning: Path | None, keep_seconds: float | None
) -> None:
    """Raise unless the files are there, and go to the audio models."""
    for option, path in (("--melody", melody), ("--continue-from", beginning)):
        if path is None:
            continue
        if not path.is_file():
            raise MelismaError(f"there is no file {path}: {option} takes a sound file")
        if engine != "sound":
            raise MelismaError(
                f"{option} conditions the audio models: leave out --engine "
                f"{engine}, or use `melisma compose` with a MIDI file"
            )
    if keep_seconds is not None and beginning is None:
        raise MelismaError("--keep-seconds says how much of --continue-from is used: give a file")
    real("--keep-seconds", keep_seconds, 0.5, 60.0)


def _sampling(given: Mapping[str, float | int | None]) -> dict[str, float | int]:
    """The sampling parameters that were given, each within its limits."""
    for name, number in given.items():
        option = "--" + name.replace("_", "-")
        if name.startswith("top_k"):
            least = 0 if name == "top_k" else 1
            whole(option, None if number is None else int(number), least, 65_536)
        elif name == "top_p":
            real(option, number, 1e-6, 1.0)
        elif name.startswith("guidance"):
            real(option, number, 0.0, 20.0)
        else:
            real(option, number, 0.01, 5.0)
    return {name: number for name, number in given.items() if number is not None}


def _line(receipt: dict[str, object]) -> str:
    """One line about a piece for a person."""
    conditions = receipt["conditions"]
    assert isinstance(conditions, dict)
    facts = [f"{receipt['seconds']:g} s", f"seed {receipt['seed']}"]
    facts += [f"{name} {value}" for name, value in conditions.items()]
    if receipt.get("similarity") is not None:
        facts.append(f"similarity {receipt['similarity']:.2f}")
    if receipt.get("first_sound_seconds") is not None:
        facts.append(f"first sound after {receipt['first_sound_seconds']:.2f} s")
    line = f"{receipt['path']}  ({', '.join(facts)})"
    if "engine_reason" in receipt:
        line += f"\n  engine {receipt['engine']}: {receipt['engine_reason']}"
    return "\n".join([line, *receipt_lines(receipt)])
