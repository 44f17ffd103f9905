"""`melisma compose`: from words to scores, as MIDI files and on request as sound."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import melisma
from melisma.cli import options
from melisma.cli.arguments import (
    LARGEST_SEED,
    MOST_CANDIDATES,
    MOST_PIECES,
    gather_words,
    named_model,
    read_tonality,
    real,
    whole,
)
from melisma.cli.output_paths import audio_paths, midi_paths, plot_paths, stem_paths
from melisma.cli.progress import progress_bar
from melisma.cli.receipts import receipt_lines
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams
from melisma.values.score_prompt import STYLE_NAMES, ScorePrompt


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
    continue_from: options.ContinueFrom = None,
    infill: options.Infill = None,
    melody: options.Melody = None,
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
    """Write a score from words: MIDI, and sound on request."""
    constraints = (instruments, style, bpm, key, time_signature, continue_from, melody)
    wordless = not prompts and prompts_file is None and any(one is not None for one in constraints)
    words = [""] if wordless else gather_words(prompts or [], prompts_file)
    whole("--count", count, 1, MOST_PIECES)
    whole("--best-of", best_of, 1, MOST_CANDIDATES)
    whole("--threads", threads, 1, 1024)
    whole("--seed", seed, 0, LARGEST_SEED - MOST_PIECES)
    if bars is not None and duration is not None:
        raise MelismaError("--bars and --duration both say how long: give one of them")
    sampling = _sampling(temperature, top_k, top_p, greedy, guidance)
    reference = named_model(model)
    seed = secrets.randbelow(2**31) if seed is None else seed
    texts = [text for text in words for _ in range(count)]
    paths = midi_paths(output, texts, seed)
    check_combination(room, bars, continue_from, infill, melody)
    given = continue_from is not None or melody is not None

    def prompt(text: str, programs: tuple[int, ...] = (), has_prefix: bool = given) -> ScorePrompt:
        return ScorePrompt(
            words=text,
            bars=bars,
            duration_seconds=30.0 if duration is None else duration,
            tempo_bpm=bpm,
            tonality=None if key is None else read_tonality(key),
            metre=None if time_signature is None else read_time_signature(time_signature),
            style=None if style is None else read_style(style),
            programs=programs,
            has_prefix=has_prefix,
        )

    for text in texts:  # checked before anything heavy is loaded
        prompt(text, has_prefix=given or instruments is not None)
    filled = None if infill is None else read_bars(infill)
    sounds = _sounds(audio, paths, seed)
    plots, folders = plot_paths(plot, len(texts)), stem_paths(stems, paths)

    from melisma.generation.requests.facade import MelismaPipeline, notes_of, score_of
    from melisma.generation.requests.score import ScoreRequest, run_score
    from melisma.generation.score.instrumentation import programs_of
    from melisma.generation.score.pipeline import ScoreContext

    programs = () if instruments is None else programs_of(instruments)
    request = ScoreRequest(
        prompts=tuple(prompt(text, programs) for text in texts),
        seed=seed,
        sampling=SamplingParams.of(sampling),
        best_of=best_of,
        context=ScoreContext(
            continue_from=score_of(continue_from), infill_bars=filled, melody=score_of(melody)
        ),
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
                results, paths, sounds, folders, plots, strict=True
            )
        ]
    if as_json:
        document = {"version": melisma.__version__, "pieces": rows}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        for row in rows:
            print(score_line(row))


def check_combination(
    room: str,
    bars: int | None,
    continue_from: Path | None,
    infill: str | None,
    melody: Path | None,
) -> None:
    """Raise where options do not go together, before anything heavy is loaded."""
    from melisma.sound.reverberation import ROOMS

    if room not in ROOMS:
        raise MelismaError(f'no room "{room}": known are {", ".join(ROOMS)}')
    if infill is not None and continue_from is None:
        raise MelismaError("--infill fills bars of a piece: name it with --continue-from")
    if melody is not None and continue_from is not None:
        raise MelismaError("--melody and --continue-from exclude each other: give one of them")
    if melody is not None and bars is not None:
        raise MelismaError("--bars: an accompaniment is as long as its melody, leave it out")
    for path in (melody, continue_from):
        if path is not None and not path.is_file():
            raise MelismaError(f"there is no file {path}: check the name")


def score_line(row: dict[str, object]) -> str:
    """One line about a piece for a person."""
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


def _sampling(
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    greedy: bool,
    guidance: float | None,
) -> dict[str, float | int]:
    """The sampling parameters that were given, each within its limits."""
    real("--temperature", temperature, 0.0, 5.0)
    whole("--top-k", top_k, 1, 65_536)
    real("--top-p", top_p, 0.01, 1.0)
    real("--guidance", guidance, 0.0, 20.0)
    if greedy and (temperature or top_k or top_p):
        raise MelismaError("--greedy takes the most likely event: leave out the other settings")
    given = {
        "temperature": 0.0 if greedy else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "guidance": guidance,
    }
    return {name: number for name, number in given.items() if number is not None}


def _sounds(audio: str | None, paths: list[Path], seed: int) -> list[Path | None]:
    """Where the sound of each piece goes, named like its score where a folder is named."""
    if audio is None:
        return [None] * len(paths)
    if Path(audio).is_dir() or audio.endswith("/"):
        return [
            audio_paths(str(Path(audio) / f"{path.stem}.wav"), None, [""], seed)[0]
            for path in paths
        ]
    return list(audio_paths(audio, None, [path.stem for path in paths], seed))


def read_time_signature(words: str) -> tuple[int, int]:
    """(3, 4) from "3/4"; what is allowed is said by `ScorePrompt`."""
    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(\d{1,2})\s*", words)
    if match is None:
        raise MelismaError(f'no time signature "{words}": give one like 3/4 or 6/8')
    return int(match[1]), int(match[2])


def read_bars(words: str) -> tuple[int, int]:
    """(9, 12) from "9-12", (9, 9) from "9"."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*(?:[-–]\s*(\d{1,5}))?\s*", words)
    if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
        raise MelismaError(f'no range of bars "{words}": give one like 9-12, counted from 1')
    return int(match[1]), int(match[2] or match[1])


def read_style(words: str) -> str:
    """One of `STYLE_NAMES`, in any case."""
    plain = words.strip().lower()
    for manner in STYLE_NAMES:
        if plain == manner.lower():
            return manner
    raise MelismaError(
        f'no style "{words}": it is one of {", ".join(STYLE_NAMES)}; say anything else in words'
    )
