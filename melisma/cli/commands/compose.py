"""`melisma compose`: from a text prompt to scores, as MIDI files and on request as audio."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from melisma.cli import options
from melisma.cli.arguments import (
    MOST_PIECES,
    check_integer,
    check_numbers,
    check_real,
    gather_prompts,
    named_model,
    unknown_name,
)
from melisma.cli.output_paths import audio_paths, midi_paths, plot_paths, stem_paths
from melisma.cli.progress import progress_bar
from melisma.cli.receipts import print_pieces, receipt_lines
from melisma.values.attributes import parse_key
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import ScorePrompt, parse_style, parse_time_signature

if TYPE_CHECKING:
    from melisma.generation.score.pipeline import ScoreContext


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
    continue_from: options.ScoreContinueFrom = None,
    infill: options.Infill = None,
    melody: options.ScoreMelody = None,
    seed: options.Seed = None,
    count: options.Count = 1,
    best_of: options.ScoreBestOf = 8,
    receipt: options.Receipt = False,
    original: options.Original = False,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    greedy: options.Greedy = False,
    guidance: options.ScoreGuidance = None,
    output: options.ScoreOutput = None,
    audio: options.Audio = None,
    soundfont: options.Soundfont = None,
    room: options.Room = "studio",
    stems: options.Stems = None,
    plot: options.RollPlot = None,
    model: options.Model = "default",
    as_json: options.Json = False,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Compose a score from a text prompt: MIDI, and audio on request."""
    attributes = (instruments, style, bpm, key, time_signature, continue_from, melody)
    texts = piece_texts(prompts, prompts_file, optional=any(one is not None for one in attributes))
    check_integer("--count", count, 1, MOST_PIECES)
    check_numbers(seed=seed, best_of=best_of, threads=threads)
    sampling = checked_sampling(temperature, top_k, top_p, greedy, guidance)
    reference = named_model(model)
    seed = secrets.randbelow(2**31) if seed is None else seed
    texts = [text for text in texts for _ in range(count)]
    paths = midi_paths(output, texts, seed)
    check_combination(room, bars, duration, continue_from, infill, melody)
    make_prompt = prompt_factory(bars, duration, bpm, key, time_signature, style)
    has_prefix = continue_from is not None or melody is not None
    for text in texts:  # checked before anything heavy is loaded
        make_prompt(words=text, has_prefix=has_prefix or instruments is not None)
    infill_bars = None if infill is None else parse_bar_range(infill)
    sounds = sound_paths(audio, paths, seed)
    plots, stem_folders = plot_paths(plot, len(texts)), stem_paths(stems, paths)

    from melisma.generation.requests.facade import MelismaPipeline, notes_of
    from melisma.generation.requests.score import ScoreRequest, run_score
    from melisma.generation.score.instrumentation import programs_of

    programs = () if instruments is None else programs_of(instruments)
    request = ScoreRequest(
        prompts=tuple(
            make_prompt(words=text, programs=programs, has_prefix=has_prefix) for text in texts
        ),
        seed=seed,
        sampling=sampling,
        best_of=best_of,
        context=score_context(continue_from, infill_bars, melody),
        receipt=receipt,
        original=original,
        notes=notes_of(melody=melody, continue_from=continue_from),
    )
    pipeline = MelismaPipeline(reference, threads=threads)
    with progress_bar("composing", quiet=quiet) as progress:
        results = run_score(pipeline.scores, request, progress)
        rows = [
            result.save(
                path, audio=sound, stems=folder, plot=picture, soundfont=soundfont, room=room
            )
            for result, path, sound, folder, picture in zip(
                results, paths, sounds, stem_folders, plots, strict=True
            )
        ]
    print_pieces(rows, score_line, as_json=as_json, quiet=quiet)


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
    )


def score_context(
    continue_from: Path | None, infill_bars: tuple[int, int] | None, melody: Path | None
) -> ScoreContext:
    """The notes that the scores are conditioned on, read from their MIDI files."""
    from melisma.generation.requests.facade import score_of
    from melisma.generation.score.pipeline import ScoreContext

    return ScoreContext(
        continue_from=score_of(continue_from), infill_bars=infill_bars, melody=score_of(melody)
    )


def check_combination(
    room: str,
    bars: int | None,
    duration: float | None,
    continue_from: Path | None,
    infill: str | None,
    melody: Path | None,
) -> None:
    """Raises `MelismaError` if options contradict each other, before anything heavy is loaded."""
    from melisma.sound.reverberation import ROOMS

    if room not in ROOMS:
        raise MelismaError(unknown_name("room", room, list(ROOMS)))
    if bars is not None and duration is not None:
        raise MelismaError("--bars and --duration both set the length: give one of them")
    if infill is not None and continue_from is None:
        raise MelismaError("--infill rewrites bars of a given piece: add --continue-from")
    if melody is not None and continue_from is not None:
        raise MelismaError("--melody and --continue-from exclude each other: give one of them")
    if melody is not None and bars is not None:
        raise MelismaError("an accompaniment is as long as its melody: leave out --bars")
    for path in (melody, continue_from):
        if path is not None and not path.is_file():
            raise MelismaError(f"there is no file {path}: check the name")


def score_line(row: dict[str, object]) -> str:
    """The line that is printed about a piece, with further lines about its files and receipt."""
    conditions, sound = row["conditions"], row["sound"]
    assert isinstance(conditions, dict)
    facts = [f"{row['seconds']:g} s", f"{row['bars']} bars", f"seed {row['seed']}"]
    facts += [f"{name} {value}" for name, value in conditions.items()]
    line = f"{row['path']}  ({', '.join(facts)})"
    if isinstance(sound, dict) and sound["path"] is not None:
        line += f"\n{sound['path']}  ({sound['seconds']:g} s, {Path(sound['soundfont']).name})"
    if isinstance(sound, dict) and sound["stems"]:
        line += f"\n{Path(sound['stems'][0]).parent}  ({len(sound['stems']) // 2} stems)"
    return "\n".join([line, *receipt_lines(row)])


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
    if Path(audio).is_dir() or audio.endswith("/"):
        return [
            audio_paths(str(Path(audio) / f"{path.stem}.wav"), None, [""], seed)[0]
            for path in paths
        ]
    return list(audio_paths(audio, None, [path.stem for path in paths], seed))


def parse_bar_range(words: str) -> tuple[int, int]:
    """(9, 12) from "9-12", (9, 9) from "9": first and last bar, counted from 1."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*(?:[-–]\s*(\d{1,5}))?\s*", words)
    if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
        raise MelismaError(
            f'"{words}" is not a range of bars: use one such as 9-12, counted from 1'
        )
    return int(match[1]), int(match[2] or match[1])
