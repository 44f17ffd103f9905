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
    check_model,
    gather_words,
    read_tonality,
    real,
    whole,
)
from melisma.cli.output_paths import audio_places, midi_places, picture_places, stem_places
from melisma.cli.progress import progress_bar
from melisma.cli.scoring import ScoreRequest, run_score_request, score_line
from melisma.values.score_prompt import MANNERS


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
    told = (instruments, style, bpm, key, time_signature, continue_from, melody)
    wordless = not prompts and prompts_file is None and any(one is not None for one in told)
    words = [""] if wordless else gather_words(prompts or [], prompts_file)
    whole("--count", count, 1, MOST_PIECES)
    whole("--best-of", best_of, 1, MOST_CANDIDATES)
    whole("--threads", threads, 1, 1024)
    whole("--seed", seed, 0, LARGEST_SEED - MOST_PIECES)
    if bars is not None and duration is not None:
        raise ValueError("--bars and --duration both say how long: give one of them")
    drawing = _drawing(temperature, top_k, top_p, greedy, guidance)
    check_model(model)
    seed = secrets.randbelow(2**31) if seed is None else seed
    total = len(words) * count
    places = midi_places(output, [text for text in words for _ in range(count)], seed)
    order = ScoreRequest(
        words=[text for text in words for _ in range(count)],
        wish={
            "bars": bars,
            "tempo_bpm": bpm,
            "tonality": None if key is None else read_tonality(key),
            "metre": None if time_signature is None else read_time_signature(time_signature),
            "style": None if style is None else read_style(style),
        }
        | ({} if duration is None else {"duration_seconds": duration}),
        instruments=instruments,
        continue_from=continue_from,
        infill=None if infill is None else read_bars(infill),
        melody=melody,
        seed=seed,
        best_of=best_of,
        receipt=receipt,
        original=original,
        drawing=drawing,
        model=model,
        threads=threads,
        places=places,
        sounds=_sounds(audio, places, seed),
        pictures=picture_places(plot, total),
        stems=stem_places(stems, places),
        soundfont=soundfont,
        room=room,
    )
    order.check()
    with progress_bar("composing", quiet=quiet) as progress:
        receipts = run_score_request(order, progress)
    if as_json:
        document = {"version": melisma.__version__, "pieces": receipts}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        for row in receipts:
            print(score_line(row))


def _drawing(
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    greedy: bool,
    guidance: float | None,
) -> dict[str, float | int]:
    """The drawing settings that were given, each within its limits."""
    real("--temperature", temperature, 0.0, 5.0)
    whole("--top-k", top_k, 1, 65_536)
    real("--top-p", top_p, 0.01, 1.0)
    real("--guidance", guidance, 0.0, 20.0)
    if greedy and (temperature or top_k or top_p):
        raise ValueError("--greedy takes the likeliest event: leave out the other settings")
    given = {
        "temperature": 0.0 if greedy else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "guidance": guidance,
    }
    return {name: number for name, number in given.items() if number is not None}


def _sounds(audio: str | None, places: list[Path], seed: int) -> list[Path | None]:
    """Where the sound of each piece goes, named like its score where a folder is named."""
    if audio is None:
        return [None] * len(places)
    if Path(audio).is_dir() or audio.endswith("/"):
        return [
            audio_places(str(Path(audio) / f"{place.stem}.wav"), None, [""], seed)[0]
            for place in places
        ]
    return list(audio_places(audio, None, [place.stem for place in places], seed))


def read_time_signature(words: str) -> tuple[int, int]:
    """(3, 4) from "3/4"; what is allowed is said by `ScorePrompt`."""
    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(\d{1,2})\s*", words)
    if match is None:
        raise ValueError(f'no time signature "{words}": give one like 3/4 or 6/8')
    return int(match[1]), int(match[2])


def read_bars(words: str) -> tuple[int, int]:
    """(9, 12) from "9-12", (9, 9) from "9"."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*(?:[-–]\s*(\d{1,5}))?\s*", words)
    if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
        raise ValueError(f'no range of bars "{words}": give one like 9-12, counted from 1')
    return int(match[1]), int(match[2] or match[1])


def read_style(words: str) -> str:
    """One of `MANNERS`, in any case."""
    plain = words.strip().lower()
    for manner in MANNERS:
        if plain == manner.lower():
            return manner
    raise ValueError(
        f'no style "{words}": it is one of {", ".join(MANNERS)}; say anything else in words'
    )
