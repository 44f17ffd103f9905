"""`melisma generate`: from a text prompt to audio files."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.cli import options, sampling_options
from melisma.cli.arguments import (
    check_integer,
    check_model,
    check_numbers,
    check_precision,
    check_real,
    gather_prompts,
    input_file,
    make_prompts,
    named_model,
)
from melisma.cli.output_paths import (
    PIPE,
    audio_paths,
    chooses_names,
    is_folder,
    plot_paths,
    saved_at,
)
from melisma.cli.places import Targets, check_places
from melisma.cli.process import leave_output
from melisma.cli.progress import Progress, progress_bar
from melisma.cli.receipts import (
    other_conditions,
    print_pieces,
    print_remarks,
    receipt_lines,
    replaced_words,
    similarity_words,
    understanding_lines,
)
from melisma.files.names import free_path, is_special
from melisma.generation.requests.abilities import ENGINES
from melisma.values import Prompt
from melisma.values.errors import MelismaError, unknown_name
from melisma.values.model_ref import ModelRef
from melisma.values.prompt import CONTINUED_SECONDS
from melisma.values.sampling import RANKS, SamplingParams

if TYPE_CHECKING:
    from melisma.generation.requests.audio import AudioRequest
    from melisma.generation.requests.facade import MelismaPipeline
    from melisma.generation.requests.score import ScoreResult


def generate(
    prompts: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    duration: options.Duration = 10.0,
    seed: options.Seed = None,
    output: options.Output = None,
    count: options.Count = 1,
    best_of: options.BestOf = None,
    rank: options.Rank = None,
    receipt: options.Receipt = False,
    original: options.Original = False,
    bpm: options.Bpm = None,
    key: options.Key = None,
    time_signature: options.AudioTimeSignature = None,
    without: options.Without = None,
    melody: options.AudioMelody = None,
    continue_from: options.AudioContinueFrom = None,
    keep_seconds: options.KeepSeconds = None,
    whole: options.Whole = False,
    guidance: sampling_options.Guidance = None,
    guidance_coarse: sampling_options.GuidanceCoarse = None,
    temperature_semantic: sampling_options.TemperatureSemantic = None,
    top_k_semantic: sampling_options.TopKSemantic = None,
    temperature_coarse: sampling_options.TemperatureCoarse = None,
    top_k_coarse: sampling_options.TopKCoarse = None,
    temperature_fine: sampling_options.TemperatureFine = None,
    temperature: sampling_options.SoundTemperature = None,
    top_k: sampling_options.SoundTopK = None,
    top_p: sampling_options.SoundTopP = None,
    stream: options.Stream = False,
    engine: options.Engine = "sound",
    model: options.Model = "default",
    precision: options.Precision = None,
    form: options.Format = None,
    plot: options.Plot = None,
    no_clobber: options.NoClobber = False,
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
        metre=time_signature,
        without=without,
    )
    check_numbers(seed=seed, best_of=best_of, threads=threads)
    sampling = checked_sampling(
        guidance=guidance, guidance_coarse=guidance_coarse,
        temperature_semantic=temperature_semantic, temperature_coarse=temperature_coarse,
        temperature_fine=temperature_fine, top_k_semantic=top_k_semantic,
        top_k_coarse=top_k_coarse, temperature=temperature, top_k=top_k, top_p=top_p,
    )  # fmt: skip
    reference = named_model(model)
    check_precision(precision)
    melody, continue_from = input_file(melody), input_file(continue_from)
    check_engine(engine, sampling, rank)
    check_context(engine, melody, continue_from, keep_seconds, whole=whole)
    seed = secrets.randbelow(2**31) if seed is None else seed
    targets = sound_targets(
        output, form, plot, [one.words for one in piece_prompts], seed,
        sources={"--melody": melody, "--continue-from": continue_from, "--prompts": prompts_file},
        engine=engine, stream=stream, no_clobber=no_clobber, as_json=as_json,
    )  # fmt: skip
    check_model(reference, engine, {
        "bpm": bpm, "key": key, "time_signature": time_signature, "without": without or None,
        "melody": melody, "continue_from": continue_from, "keep_seconds": keep_seconds,
        "whole": whole or None, "best_of": best_of, "rank": rank, "original": original or None,
        "receipt": receipt or None, "stream": stream or None, "plot": plot,
        "precision": precision, **sampling,
    }, best_of=best_of)  # fmt: skip
    request = audio_request(
        piece_prompts,
        seed=seed,
        sampling=SamplingParams.of(sampling),
        best_of=best_of,
        rank=rank or RANKS[0],
        receipt=receipt,
        original=original,
        melody=melody,
        continue_from=continue_from,
        keep_seconds=CONTINUED_SECONDS if keep_seconds is None else keep_seconds,
        whole=whole,
        precision=precision,
    )
    check_formats(request, targets)
    if stream:
        check_stream(request, engine, targets)
    announce_licence(reference)
    rows = run_request(
        request, reference, engine, targets,
        stream=stream, threads=threads, precision=precision, quiet=quiet,
    )  # fmt: skip
    if not targets.are_output:
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
    whole: bool,
    precision: str | None,
) -> AudioRequest:
    """Builds the request, having read the audio files that it is conditioned on."""
    from melisma.generation.requests.audio import AudioRequest
    from melisma.generation.requests.given import audio_context, notes_of

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
            whole=whole,
            precision=precision,
        ),
        context=audio_context(
            melody,
            continue_from,
            keep_seconds,
            whole=whole,
            seconds=max(one.duration_seconds for one in prompts),
        ),
    )


def run_request(
    request: AudioRequest,
    model: ModelRef,
    engine: str,
    targets: Targets,
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

    if request.context is not None:
        print_remarks(request.context.remarks, quiet=quiet)
    pipeline = MelismaPipeline(model, threads=threads, precision=precision)
    with progress_bar("composing", quiet=quiet) as progress, targets.made_folders():
        if engine != "score":
            pipeline.expect_memory(request)
        if stream:
            return [stream_to(pipeline, request, targets, progress, quiet=quiet)]
        return save_all(pipeline, request, engine, targets, progress)


def save_all(
    pipeline: MelismaPipeline,
    request: AudioRequest,
    engine: str,
    targets: Targets,
    progress: Progress,
) -> list[dict[str, object]]:
    """Runs a request and writes each piece as soon as it is finished; returns the receipts."""
    from melisma.generation.requests.score import ScoreResult

    rows: list[dict[str, object]] = []
    results = pipeline.run(request, engine, progress)
    for path, plot, (result, used_engine, reason) in zip(
        targets.paths, targets.plots, results, strict=True
    ):
        if isinstance(result, ScoreResult):
            row = saved_at(path, partial(save_score, result, plot, targets), targets.counts_up)
        else:
            save = partial(
                result.save, plot=plot, ending=targets.ending, replace=not targets.counts_up
            )
            row = saved_at(path, save, targets.counts_up)
        rows.append(row | {"engine": used_engine} | ({"engine_reason": reason} if reason else {}))
    return rows


def save_score(
    result: ScoreResult, plot: Path | None, targets: Targets, path: Path
) -> dict[str, object]:
    """Writes a score's sound at `path`, and the score beside it under a free name."""
    midi = free_path(path.with_suffix(".mid"))
    row = result.save(midi, audio=path, plot=plot, replace=not targets.counts_up)
    sound = row["sound"]
    assert isinstance(sound, dict)
    facts = {key: sound[key] for key in ("seconds", "rate_hz", "loudness_lufs")}
    return row | facts | {"path": str(path), "score": row["path"]}


def sound_targets(
    output: str | None,
    form: str | None,
    plot: str | None,
    texts: Sequence[str],
    seed: int,
    *,
    sources: Mapping[str, Path | None],
    engine: str,
    stream: bool,
    no_clobber: bool,
    as_json: bool,
) -> Targets:
    """Where the pieces go, checked."""
    if stream and output == str(PIPE):
        check_pipe(form, as_json=as_json)
        paths = [PIPE] * len(texts)
    else:
        if Path(output or "").suffix.lower() in (".mid", ".midi") and not is_folder(output):
            raise MelismaError(
                f"{Path(str(output)).name} is the name of a score: `melisma compose` writes MIDI "
                "files, `melisma generate` audio"
            )
        paths = audio_paths(output, form, texts, seed)
    plots = plot_paths(plot, len(texts), paths)
    places = {"--output": paths, "--plot": plots}
    check_places(places, sources=sources, no_clobber=no_clobber, as_json=as_json)
    if engine != "sound" and any(is_special(path) for path in paths):
        raise MelismaError(
            f"--engine {engine} may write a score beside the sound, and {output} is no file: "
            "choose a file name"
        )
    return Targets(
        paths=paths, plots=plots, form=form, counts_up=no_clobber or chooses_names(output)
    )


def check_formats(request: AudioRequest, targets: Targets) -> None:
    """Raises `MelismaError` if a format lacks the sample rate of the given recording."""
    from melisma.files.audio.writing import audio_ending, check_audio_format

    beginning = None if request.context is None else request.context.beginning
    if beginning is None:
        return
    endings = {audio_ending(path, targets.ending) for path in targets.paths if path != PIPE}
    for ending in sorted(endings):
        check_audio_format(ending, beginning.rate_hz, beginning.samples.shape[0])


def check_stream(request: AudioRequest, engine: str, targets: Targets) -> None:
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
        "--plot": list(targets.plots) != [None],
        "--temperature-fine": "temperature_fine" in (request.sampling or SamplingParams()).flat(),
    }
    if given := [name for name, is_given in whole_piece_options.items() if is_given]:
        names = ", ".join(given)
        raise MelismaError(f"options that need the whole piece exclude --stream: leave out {names}")
    if list(targets.paths) == [PIPE] and sys.stdout.isatty():
        raise MelismaError(
            "--output - writes audio to standard output: pipe it to a player, e.g. | ffplay -i -"
        )


def check_pipe(form: str | None, *, as_json: bool) -> None:
    """Raises `MelismaError` for options that do nothing where audio goes to standard output."""
    if form is not None and form.lower().removeprefix(".") != "wav":
        raise MelismaError(
            f"a pipe carries WAV, not {form}: leave out --format, or write to a file"
        )
    if as_json:
        raise MelismaError(
            "--output - writes audio to standard output, where JSON has no place: leave out --json"
        )


def stream_to(
    pipeline: MelismaPipeline,
    request: AudioRequest,
    targets: Targets,
    progress: Progress,
    *,
    quiet: bool,
) -> dict[str, object]:
    """Generates one piece and streams it to a file or standard output; returns its receipt."""
    from melisma.generation.requests.stream import ListenerGoneError

    def announce(path: Path) -> None:
        if not quiet:
            print(f"melisma: the sound grows in {path}", file=sys.stderr)

    (path,) = targets.paths
    target = sys.stdout.buffer if path == PIPE else path
    try:
        return pipeline.stream(
            request, target, progress, growing=announce, replace=not targets.counts_up
        )
    except ListenerGoneError:
        leave_output()
        raise


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


def check_engine(engine: str, sampling: Mapping[str, float | int], rank: str | None) -> None:
    """Raises `MelismaError` unless the engine exists and takes the options that were given."""
    if engine not in ENGINES:
        raise MelismaError(unknown_name("engine", engine, ENGINES))
    if engine == "score" and sampling:
        names = ", ".join("--" + name.replace("_", "-") for name in sampling)
        single = len(sampling) == 1
        raise MelismaError(
            f"{names} {'applies' if single else 'apply'} to the audio models only: leave "
            f"{'it' if single else 'them'} out, or use `melisma compose`, "
            "which has sampling options for scores"
        )
    if rank is not None and rank not in RANKS:
        raise MelismaError(unknown_name("ranking", rank, RANKS))
    if engine == "score" and rank is not None:
        raise MelismaError(
            "--rank applies to the audio models only: leave it out, scores are ranked by how well "
            "their notes adhere to the prompt"
        )


def check_context(
    engine: str,
    melody: Path | None,
    continue_from: Path | None,
    keep_seconds: float | None,
    *,
    whole: bool,
) -> None:
    """Raises `MelismaError` unless the files exist and the engine is that of the audio models."""
    for option, path in (("--melody", melody), ("--continue-from", continue_from)):
        if path is None:
            continue
        if not path.exists():
            takes = "an audio or MIDI file" if option == "--melody" else "an audio file"
            raise MelismaError(f"there is no file {path}: {option} takes {takes}")
        if engine != "sound":
            raise MelismaError(
                f"{option} applies to the audio models only: leave out --engine {engine}, or use "
                "`melisma compose` with a MIDI file"
            )
    if keep_seconds is not None and continue_from is None:
        raise MelismaError("--keep-seconds applies to --continue-from: give a file")
    if whole and continue_from is None:
        raise MelismaError("--whole applies to --continue-from: give a file")
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
    facts = [f"{receipt['seconds']:g} s", f"seed {receipt['seed']}"]
    facts += other_conditions(receipt)
    if receipt.get("similarity") is not None:
        facts.append(similarity_words(receipt))
    facts += replaced_words(receipt)
    if receipt.get("first_sound_seconds") is not None:
        facts.append(f"first sound after {receipt['first_sound_seconds']:.2f} s")
    line = f"{receipt['path']}  ({', '.join(facts)})"
    if "engine_reason" in receipt:
        line += f"\n  engine {receipt['engine']}: {receipt['engine_reason']}"
    seam, remarks = receipt.get("seam"), receipt.get("remarks")
    if isinstance(seam, dict) and "scaled_db" in seam and isinstance(remarks, list):
        line += f"\n  note: {remarks[-1]}"  # the others were printed before
    return "\n".join([line, *understanding_lines(receipt), *receipt_lines(receipt)])
