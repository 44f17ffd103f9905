"""`melisma compose`: from a text prompt to scores, as MIDI files and on request as audio."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.cli import options, sampling_options
from melisma.cli.arguments import (
    MOST_PIECES,
    check_integer,
    check_model,
    check_numbers,
    check_real,
    excluded_instruments,
    gather_prompts,
    input_file,
    named_model,
)
from melisma.cli.output_paths import (
    audio_paths,
    chooses_names,
    in_folder,
    is_folder,
    midi_paths,
    plot_paths,
    saved_at,
    stem_paths,
)
from melisma.cli.places import ScoreTargets, check_places
from melisma.cli.progress import progress_bar
from melisma.cli.receipts import (
    other_conditions,
    print_pieces,
    print_remarks,
    receipt_lines,
    replaced_words,
    understanding_lines,
)
from melisma.files.names import free_path, is_special
from melisma.values.attributes import parse_key
from melisma.values.errors import MelismaError, unknown_name
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt, parse_style, parse_time_signature

if TYPE_CHECKING:
    from melisma.generation.requests.score import ScoreResult
    from melisma.generation.score.pipeline import ScoreContext
    from melisma.values import Score


def compose(
    prompts: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    bars: options.Bars = None,
    duration: options.ScoreDuration = None,
    bpm: options.Bpm = None,
    key: options.Key = None,
    time_signature: options.TimeSignature = None,
    instruments: options.Instruments = None,
    style: options.Style = None,
    without: options.Without = None,
    continue_from: options.ScoreContinueFrom = None,
    infill: options.Infill = None,
    melody: options.ScoreMelody = None,
    seed: options.Seed = None,
    count: options.Count = 1,
    best_of: options.ScoreBestOf = 8,
    receipt: options.Receipt = False,
    original: options.Original = False,
    temperature: sampling_options.Temperature = None,
    top_k: sampling_options.TopK = None,
    top_p: sampling_options.TopP = None,
    greedy: sampling_options.Greedy = False,
    guidance: sampling_options.ScoreGuidance = None,
    output: options.ScoreOutput = None,
    audio: options.Audio = None,
    soundfont: options.Soundfont = None,
    room: options.Room = None,
    stems: options.Stems = None,
    plot: options.RollPlot = None,
    no_clobber: options.NoClobber = False,
    model: options.Model = "default",
    as_json: options.Json = False,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Compose a score from a text prompt: MIDI, and audio on request."""
    attributes = (instruments, style, without, bpm, key, time_signature, continue_from, melody)
    texts = piece_texts(prompts, prompts_file, optional=any(one is not None for one in attributes))
    check_integer("--count", count, 1, MOST_PIECES)
    check_numbers(seed=seed, best_of=best_of, threads=threads)
    sampling = checked_sampling(temperature, top_k, top_p, greedy, guidance)
    reference = named_model(model)
    seed = secrets.randbelow(2**31) if seed is None else seed
    melody, continue_from = input_file(melody), input_file(continue_from)
    texts = [text for text in texts for _ in range(count)]
    check_sound(audio, stems, soundfont=soundfont, room=room)
    check_combination(continue_from, infill, melody, {
        "bars": bars, "duration": duration, "bpm": bpm, "time_signature": time_signature,
        "instruments": instruments,
    })  # fmt: skip
    make_prompt = prompt_factory(bars, duration, bpm, key, time_signature, style, without)
    has_prefix = continue_from is not None or melody is not None
    for text in texts:  # checked before anything heavy is loaded
        make_prompt(words=text, has_prefix=has_prefix or instruments is not None)
    infill_bars = None if infill is None else parse_bar_range(infill)
    targets = score_targets(
        output, audio, stems, plot, texts, seed,
        sources={
            "--melody": melody, "--continue-from": continue_from, "--prompts": prompts_file,
            "--soundfont": soundfont,
        },
        no_clobber=no_clobber, as_json=as_json,
    )  # fmt: skip
    check_model(reference, "score", {})

    from melisma.generation.requests.facade import MelismaPipeline
    from melisma.generation.requests.given import melody_for_prompt, notes_of
    from melisma.generation.requests.score import ScoreRequest, run_score
    from melisma.generation.score.instrumentation import programs_of

    programs = () if instruments is None else programs_of(instruments)
    pieces = tuple(
        make_prompt(words=text, programs=programs, has_prefix=has_prefix) for text in texts
    )
    tune, hummed = melody_for_prompt(melody, pieces[0])
    remarks = () if hummed is None else hummed.remarks
    print_remarks(remarks, quiet=quiet)
    request = ScoreRequest(
        prompts=pieces,
        seed=seed,
        sampling=sampling,
        best_of=best_of,
        context=score_context(continue_from, infill_bars, tune),
        receipt=receipt,
        original=original,
        notes=notes_of(melody=melody, continue_from=continue_from)
        | ({} if hummed is None else {"transcribed": hummed.words})
        | ({"remarks": list(remarks)} if remarks else {}),
    )
    pipeline = MelismaPipeline(reference, threads=threads)
    with progress_bar("composing", quiet=quiet) as progress, targets.made_folders():
        results = run_score(pipeline.scores, request, progress)
        rows = save_scores(results, targets, soundfont, room or options.DEFAULT_ROOM)
    if not targets.are_output:
        print_pieces(rows, score_line, as_json=as_json, quiet=quiet)


def score_targets(
    output: str | None,
    audio: str | None,
    stems: Path | None,
    plot: str | None,
    texts: Sequence[str],
    seed: int,
    *,
    sources: Mapping[str, Path | None],
    no_clobber: bool,
    as_json: bool,
) -> ScoreTargets:
    """Where the scores and what comes with them go, checked."""
    paths = midi_paths(output, texts, seed)
    targets = ScoreTargets(
        paths=paths,
        sounds=sound_paths(audio, paths, seed),
        stems=stem_paths(stems, paths),
        plots=plot_paths(plot, len(texts), paths),
        counts_up=no_clobber or (chooses_names(output) and chooses_names(audio)),
    )
    check_places(
        {"--output": targets.paths, "--audio": targets.sounds, "--plot": targets.plots},
        folders={"--stems": targets.stems},
        sources=sources,
        no_clobber=no_clobber,
        as_json=as_json,
    )
    return targets


def save_scores(
    results: Iterable[ScoreResult], targets: ScoreTargets, soundfont: Path | None, room: str
) -> list[dict[str, object]]:
    """Writes each score as soon as it is finished; returns the receipts."""
    rows = []
    places = zip(targets.sounds, targets.stems, targets.plots, strict=True)
    for result, path, (sound, folder, picture) in zip(results, targets.paths, places, strict=True):
        save = partial(
            save_score, result, sound=sound, stems=folder, plot=picture, soundfont=soundfont,
            room=room, counts_up=targets.counts_up,
        )  # fmt: skip
        rows.append(saved_at(path, save, targets.counts_up))
    return rows


def save_score(
    result: ScoreResult,
    path: Path,
    *,
    sound: Path | None,
    stems: Path | None,
    plot: Path | None,
    soundfont: Path | None,
    room: str,
    counts_up: bool,
) -> dict[str, object]:
    """Writes a score at `path`, and its sound under a free name where names count up."""
    if sound is not None and counts_up and not is_special(sound):
        sound = free_path(sound)
    return result.save(
        path, audio=sound, stems=stems, plot=plot, soundfont=soundfont, room=room,
        replace=not counts_up,
    )  # fmt: skip


def piece_texts(prompts: list[str] | None, file: Path | None, *, optional: bool) -> list[str]:
    """The text prompts; one empty text if none is given and they are optional."""
    if optional and not prompts and file is None:
        return [""]
    return gather_prompts(prompts or [], file)


def prompt_factory(
    bars: int | None,
    duration: float | None,
    bpm: float | None,
    key: str | None,
    time_signature: str | None,
    style: str | None,
    without: Sequence[str] | None,
) -> Callable[..., ScorePrompt]:
    """`ScorePrompt` with the arguments that all pieces share; the others are `words`, `programs`
    and `has_prefix`."""
    return partial(
        ScorePrompt,
        bars=bars,
        duration_seconds=30.0 if duration is None else duration,
        tempo_bpm=bpm,
        tonality=None if key is None else parse_key(key),
        metre=None if time_signature is None else parse_time_signature(time_signature),
        style=None if style is None else parse_style(style),
        without=excluded_instruments(without),
    )


def score_context(
    continue_from: Path | None, infill_bars: tuple[int, int] | None, melody: Score | None
) -> ScoreContext:
    """The notes that the scores are conditioned on."""
    from melisma.generation.requests.given import score_of
    from melisma.generation.score.pipeline import ScoreContext

    return ScoreContext(
        continue_from=score_of(continue_from), infill_bars=infill_bars, melody=melody
    )


def check_sound(
    audio: str | None, stems: Path | None, *, soundfont: Path | None, room: str | None
) -> None:
    """Raises `MelismaError` unless there is sound for the options that are about it."""
    from melisma.sound.reverberation import ROOMS

    if room is not None and room not in ROOMS:
        raise MelismaError(unknown_name("room", room, list(ROOMS)))
    if audio is None and stems is None:
        for option, value in (("--soundfont", soundfont), ("--room", room)):
            if value is not None:
                raise MelismaError(
                    f"{option} is about sound, and only notes are written: add --audio or --stems"
                )


def check_combination(
    continue_from: Path | None,
    infill: str | None,
    melody: Path | None,
    settings: Mapping[str, object],
) -> None:
    """Raises `MelismaError` if options contradict each other, before anything heavy is loaded.

    Args:
        continue_from: A file to continue, or to rewrite bars of.
        infill: The bars.
        melody: A file whose melody is accompanied.
        settings: The options of `TASKS_OF` by their names in Python; None: not given.
    """
    from melisma.generation.requests.abilities import check_task, task_of

    if settings["bars"] is not None and settings["duration"] is not None:
        raise MelismaError("--bars and --duration both set the length: give one of them")
    if infill is not None and continue_from is None:
        raise MelismaError("--infill rewrites bars of a given piece: add --continue-from")
    if melody is not None and continue_from is not None:
        raise MelismaError("--melody and --continue-from exclude each other: give one of them")
    check_task(task_of(melody, continue_from, infill), settings)
    for path in (melody, continue_from):
        if path is not None and not path.exists():
            raise MelismaError(f"there is no file {path}: check the name")


def score_line(row: dict[str, object]) -> str:
    """The line that is printed about a piece, with further lines about its files and receipt."""
    sound = row["sound"]
    facts = [f"{row['seconds']:g} s", f"{row['bars']} bars", f"seed {row['seed']}"]
    facts += other_conditions(row)
    line = f"{row['path']}  ({', '.join([*facts, *replaced_words(row)])})"
    if isinstance(sound, dict) and sound["path"] is not None:
        facts = [f"{sound['seconds']:g} s", Path(sound["soundfont"]).name, *replaced_words(sound)]
        line += f"\n{sound['path']}  ({', '.join(facts)})"
    if isinstance(sound, dict) and sound["stems"]:
        line += f"\n{Path(sound['stems'][0]).parent}  ({len(sound['stems']) // 2} stems)"
    if row.get("transcribed") is not None:
        line += f"\n  melody: {row['transcribed']}"
    remarks = row.get("remarks")
    if isinstance(remarks, list):
        line += "".join(f"\n  note: {remark}" for remark in remarks)
    return "\n".join([line, *understanding_lines(row), *receipt_lines(row)])


def checked_sampling(
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    greedy: bool,
    guidance: float | None,
) -> SamplingParams:
    """The sampling options that were given.

    Raises:
        MelismaError: A value lies outside its limits, or options contradict each other.
    """
    check_real("--temperature", temperature, 0.0, 5.0)
    check_integer("--top-k", top_k, 1, 65_536)
    check_real("--top-p", top_p, 0.01, 1.0)
    check_real("--guidance", guidance, 0.0, 20.0)
    if greedy and (temperature or top_k or top_p):
        raise MelismaError(
            "--greedy always chooses the most likely value: leave out --temperature, --top-k and "
            "--top-p"
        )
    return SamplingParams(
        temperature=0.0 if greedy else temperature, top_k=top_k, top_p=top_p, guidance=guidance
    )


def sound_paths(audio: str | None, paths: Sequence[Path], seed: int) -> list[Path | None]:
    """Paths of the audio files, one per piece; named like the scores if `audio` is a folder."""
    if audio is None:
        return [None] * len(paths)
    if is_folder(audio):
        return list(in_folder(audio, [f"{path.stem}.wav" for path in paths]))
    return list(audio_paths(audio, None, [path.stem for path in paths], seed))


def parse_bar_range(words: str) -> tuple[int, int]:
    """(9, 12) from "9-12", (9, 9) from "9": first and last bar, counted from 1."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*(?:[-–]\s*(\d{1,5}))?\s*", words)
    if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
        raise MelismaError(
            f'"{words}" is not a range of bars: use one such as 9-12, counted from 1'
        )
    return int(match[1]), int(match[2] or match[1])
