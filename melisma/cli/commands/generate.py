"""`melisma generate`: from a text prompt to audio files."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.cli import options
from melisma.cli.arguments import (
    check_integer,
    check_numbers,
    check_precision,
    check_real,
    gather_prompts,
    make_prompts,
    named_model,
    unknown_name,
)
from melisma.cli.output_paths import PIPE, audio_paths, plot_paths
from melisma.cli.progress import Progress, progress_bar
from melisma.cli.receipts import print_pieces, receipt_lines
from melisma.values import Prompt
from melisma.values.errors import MelismaError
from melisma.values.model_ref import ModelRef
from melisma.values.prompt import CONTINUED_SECONDS
from melisma.values.sampling import SamplingParams

if TYPE_CHECKING:
    from melisma.generation.requests.audio import AudioRequest
    from melisma.generation.requests.facade import MelismaPipeline

ENGINES = ("sound", "score", "auto")
RANKINGS = ("words", "receipt")


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
    melody: options.AudioMelody = None,
    continue_from: options.AudioContinueFrom = None,
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
    """Generate audio from a text prompt, a melody or the beginning of a piece."""
    piece_prompts = make_prompts(
        gather_prompts(prompts or [], prompts_file),
        count=count,
        duration_seconds=duration,
        tempo_bpm=bpm,
        key=key,
        metre=metre,
    )
    check_numbers(seed=seed, best_of=best_of, threads=threads)
    sampling = checked_sampling(
        guidance=guidance,
        guidance_coarse=guidance_coarse,
        temperature_semantic=temperature_semantic,
        temperature_coarse=temperature_coarse,
        temperature_fine=temperature_fine,
        top_k_semantic=top_k_semantic,
        top_k_coarse=top_k_coarse,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    reference = named_model(model)
    check_precision(precision)
    check_engine(engine, sampling, rank)
    check_context(engine, melody, continue_from, keep_seconds)
    seed = secrets.randbelow(2**31) if seed is None else seed
    piped = stream and output == str(PIPE)
    texts = [one.words for one in piece_prompts]
    paths = [PIPE] * len(texts) if piped else audio_paths(output, form, texts, seed)
    plots = plot_paths(plot, len(texts))
    request = audio_request(
        piece_prompts,
        seed=seed,
        sampling=SamplingParams.of(sampling),
        best_of=best_of,
        rank=rank,
        receipt=receipt,
        original=original,
        melody=melody,
        continue_from=continue_from,
        keep_seconds=CONTINUED_SECONDS if keep_seconds is None else keep_seconds,
        precision=precision,
    )
    if stream:
        check_stream(request, engine, paths, plots)
    announce_licence(reference)
    rows = run_request(
        request, reference, engine, paths, plots,
        stream=stream, threads=threads, precision=precision, quiet=quiet,
    )  # fmt: skip
    if not piped:
        print_pieces(rows, piece_line, as_json=as_json, quiet=quiet)


def audio_request(
    prompts: Sequence[Prompt],
    *,
    seed: int,
    sampling: SamplingParams,
    best_of: int | None,
    rank: str,
    receipt: bool,
    original: bool,
    melody: Path | None,
    continue_from: Path | None,
    keep_seconds: float,
    precision: str | None,
) -> AudioRequest:
    """Builds the request, having read the audio files that it is conditioned on."""
    from melisma.generation.requests.audio import AudioRequest
    from melisma.generation.requests.facade import audio_context, notes_of

    return AudioRequest(
        prompts=tuple(prompts),
        seed=seed,
        sampling=sampling,
        best_of=best_of,
        rank=rank,
        receipt=receipt,
        original=original,
        notes=notes_of(
            melody=melody,
            continue_from=continue_from,
            keep_seconds=keep_seconds,
            precision=precision,
        ),
        context=audio_context(melody, continue_from, keep_seconds),
    )


def run_request(
    request: AudioRequest,
    model: ModelRef,
    engine: str,
    paths: Sequence[Path],
    plots: Sequence[Path | None],
    *,
    stream: bool,
    threads: int | None,
    precision: str | None,
    quiet: bool,
) -> list[dict[str, object]]:
    """Loads the model, generates all pieces and writes them.

    Returns:
        A receipt per piece.
    """
    from melisma.generation.requests.facade import MelismaPipeline

    pipeline = MelismaPipeline(model, threads=threads, precision=precision)
    with progress_bar("composing", quiet=quiet) as progress:
        if engine != "score":
            pipeline.expect_memory(request)
        if stream:
            return [stream_to(pipeline, request, paths[0], progress)]
        return save_all(pipeline, request, engine, paths, plots, progress)


def save_all(
    pipeline: MelismaPipeline,
    request: AudioRequest,
    engine: str,
    paths: Sequence[Path],
    plots: Sequence[Path | None],
    progress: Progress,
) -> list[dict[str, object]]:
    """Runs a request and writes each piece as soon as it is finished; returns the receipts."""
    from melisma.generation.requests.score import ScoreResult

    rows: list[dict[str, object]] = []
    results = pipeline.run(request, engine, progress)
    for path, plot, (result, used_engine, reason) in zip(paths, plots, results, strict=True):
        if isinstance(result, ScoreResult):
            row = result.save(path.with_suffix(".mid"), audio=path, plot=plot)
            sound = row["sound"]
            assert isinstance(sound, dict)
            facts = {key: sound[key] for key in ("seconds", "rate_hz", "loudness_lufs")}
            row |= facts | {"path": str(path), "score": row["path"]}
        else:
            row = result.save(path, plot=plot)
        rows.append(row | {"engine": used_engine} | ({"engine_reason": reason} if reason else {}))
    return rows


def check_stream(
    request: AudioRequest, engine: str, paths: Sequence[Path], plots: Sequence[Path | None]
) -> None:
    """Raises `MelismaError` if an option needs the whole piece, or there are several pieces."""
    if len(request.prompts) != 1:
        raise MelismaError("--stream writes a single piece: give one prompt and leave out --count")
    if engine != "sound":
        raise MelismaError("--stream works only with the audio models: leave out --engine")
    whole_piece_options = {
        "--best-of": request.best_of not in (None, 1),
        "--rank": request.rank != "words",
        "--receipt": request.receipt,
        "--original": request.original,
        "--plot": list(plots) != [None],
    }
    if given := [name for name, is_given in whole_piece_options.items() if is_given]:
        names = ", ".join(given)
        raise MelismaError(f"options that need the whole piece exclude --stream: leave out {names}")
    if list(paths) == [PIPE] and sys.stdout.isatty():
        raise MelismaError(
            "--output - writes audio to standard output: pipe it to a player, e.g. | ffplay -i -"
        )


def stream_to(
    pipeline: MelismaPipeline, request: AudioRequest, path: Path, progress: Progress
) -> dict[str, object]:
    """Generates one piece and streams it to a file or standard output; returns its receipt."""
    from melisma.generation.requests.stream import ListenerGoneError

    try:
        return pipeline.stream(request, sys.stdout.buffer if path == PIPE else path, progress)
    except ListenerGoneError:
        leave_pipe()
        raise


def leave_pipe() -> None:
    """Redirects standard output to the null device, so that flushing it at exit cannot fail on a
    pipe without a reader."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def announce_licence(model: ModelRef) -> None:
    """Prints the licence of published weights on stderr, before they are downloaded or used."""
    if model.family != "musicgen":
        return
    words = f"{model.name}: published MusicGen weights, licence {model.licence}: no commercial use"
    if model.source == "hub":
        from melisma.files.hub import hub_card

        card = hub_card(model.name)
        if not card.cached:
            size = "" if card.bytes is None else f" ({card.bytes / 1e9:.1f} GB)"
            words += f"; downloading from the hub{size}"
    print(f"melisma: {words}", file=sys.stderr)


def check_engine(engine: str, sampling: Mapping[str, float | int], rank: str) -> None:
    """Raises `MelismaError` unless the engine exists and takes the options that were given."""
    if engine not in ENGINES:
        raise MelismaError(unknown_name("engine", engine, ENGINES))
    if engine == "score" and sampling:
        names = ", ".join("--" + name.replace("_", "-") for name in sampling)
        raise MelismaError(
            f"{names} apply to the audio models only: leave them out, or use `melisma compose`, "
            "which has sampling options for scores"
        )
    if rank not in RANKINGS:
        raise MelismaError(unknown_name("ranking", rank, RANKINGS))
    if engine == "score" and rank != "words":
        raise MelismaError(
            "--rank applies to the audio models only: leave it out, scores are ranked by how well "
            "their notes adhere to the prompt"
        )


def check_context(
    engine: str, melody: Path | None, continue_from: Path | None, keep_seconds: float | None
) -> None:
    """Raises `MelismaError` unless the files exist and the engine is that of the audio models."""
    for option, path in (("--melody", melody), ("--continue-from", continue_from)):
        if path is None:
            continue
        if not path.is_file():
            raise MelismaError(f"there is no file {path}: {option} takes an audio file")
        if engine != "sound":
            raise MelismaError(
                f"{option} applies to the audio models only: leave out --engine {engine}, or use "
                "`melisma compose` with a MIDI file"
            )
    if keep_seconds is not None and continue_from is None:
        raise MelismaError("--keep-seconds applies to --continue-from: give a file")
    check_real("--keep-seconds", keep_seconds, 0.5, 60.0)


def checked_sampling(**values: float | int | None) -> dict[str, float | int]:
    """The sampling options that were given, by name.

    Raises:
        MelismaError: A value lies outside its limits.
    """
    for name, number in values.items():
        option = "--" + name.replace("_", "-")
        if name.startswith("top_k"):
            lowest = 0 if name == "top_k" else 1
            check_integer(option, None if number is None else int(number), lowest, 65_536)
        elif name == "top_p":
            check_real(option, number, 1e-6, 1.0)
        elif name.startswith("guidance"):
            check_real(option, number, 0.0, 20.0)
        else:
            check_real(option, number, 0.01, 5.0)
    return {name: number for name, number in values.items() if number is not None}


def piece_line(receipt: dict[str, object]) -> str:
    """The line that is printed about a piece, with further lines about its receipt."""
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
