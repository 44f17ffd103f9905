"""Options that several commands share, each with its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Prompts = Annotated[
    list[str] | None,
    typer.Argument(help="One or more text prompts that describe the music; a piece for each."),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help='A text file with one prompt per line; "#" starts a comment.',
    ),
]
Duration = Annotated[float, typer.Option(metavar="SECONDS", help="Length of each piece, 1 to 600.")]
Seed = Annotated[
    int | None,
    typer.Option(help="Random seed; the same seed gives the same music. Random by default."),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="An audio file (.wav .flac .mp3 .ogg) or a folder.",
    ),
]
Count = Annotated[int, typer.Option(help="Number of pieces per prompt.")]
BestOf = Annotated[
    int | None,
    typer.Option(
        help="Candidates per piece; the one that matches the prompt best is selected.",
        show_default="4; 1 with --stream and for published models",
    ),
]
AudioMelody = Annotated[
    Path | None,
    typer.Option(
        "--melody",
        metavar="FILE",
        help="An audio file whose melody is followed: hummed, sung or played.",
    ),
]
AudioContinueFrom = Annotated[
    Path | None,
    typer.Option("--continue-from", metavar="FILE", help="An audio file that the piece continues."),
]
KeepSeconds = Annotated[
    float | None,
    typer.Option(
        help="Seconds from the end of --continue-from that the piece starts with.",
        show_default="10",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Precision of the language models' weights: float32, bfloat16, int8 or int4.",
        show_default="float32; int8 for published models",
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Write audio while it is generated: to a growing file, or with --output - to a pipe.",
    ),
]
SoundTemperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", help="Sampling temperature of single-stage models.", show_default="1.0"
    ),
]
SoundTopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        help="Sample only from the K most likely tokens (single-stage models); 0: from all.",
        show_default="250",
    ),
]
SoundTopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        help="Sample only from the most likely tokens with this total probability (single-stage "
        "models).",
        show_default="1.0",
    ),
]
Rank = Annotated[
    str,
    typer.Option(
        help="How candidates are ranked: words (similarity to the prompt in the joint embedding) "
        "or receipt (measured tempo, key, metre and instruments)."
    ),
]
Receipt = Annotated[
    bool,
    typer.Option(
        "--receipt", help="Also measure each piece and report how well it matches the prompt."
    ),
]
Original = Annotated[
    bool,
    typer.Option("--original", help="Sample a piece again if it is too similar to training music."),
]
Bpm = Annotated[float | None, typer.Option(help="Tempo in beats per minute; overrides the prompt.")]
Key = Annotated[
    str | None, typer.Option(help='Musical key, e.g. "F# minor"; overrides the prompt.')
]
Metre = Annotated[
    str | None, typer.Option(help="Metre: 2/4, 3/4, 4/4 or 6/8; overrides the prompt.")
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="Guidance scale: how strictly the prompt is followed (semantic stage of three-stage "
        "models).",
        show_default="2.0; 3.0 of single-stage models",
    ),
]
GuidanceCoarse = Annotated[
    float | None, typer.Option(help="Guidance scale of the coarse stage.", show_default="2.5")
]
TemperatureSemantic = Annotated[
    float | None,
    typer.Option(
        help="Sampling temperature of the semantic stage (the notes); lower is safer.",
        show_default="0.85",
    ),
]
TopKSemantic = Annotated[
    int | None,
    typer.Option(help="Sample only from the K most likely semantic tokens.", show_default="200"),
]
TemperatureCoarse = Annotated[
    float | None,
    typer.Option(help="Sampling temperature of the coarse stage (timbre).", show_default="0.85"),
]
TopKCoarse = Annotated[
    int | None,
    typer.Option(help="Sample only from the K most likely coarse tokens.", show_default="60"),
]
TemperatureFine = Annotated[
    float | None,
    typer.Option(help="Sampling temperature of the fine stage (detail).", show_default="0.4"),
]
Engine = Annotated[
    str,
    typer.Option(
        help="sound: generate audio; score: compose a score and render it; auto: choose by prompt."
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="Name of a shipped model, a folder of weights, or a model on the hub, e.g. "
        "facebook/musicgen-small."
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="wav, flac, mp3 or ogg, if the output has no file name extension."
    ),
]
Soundfont = Annotated[
    Path | None,
    typer.Option(help="A .sf2 or .sf3 file; by default the best one on this system."),
]
Room = Annotated[str, typer.Option(help="Reverberation: dry, studio or hall.")]
Stems = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Also write each part by itself, as audio and as MIDI."),
]
Bars = Annotated[
    int | None, typer.Option(help="Number of bars; by default as many as fill 30 seconds.")
]
ScoreDuration = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Length instead of --bars, 1 to 600.")
]
TimeSignature = Annotated[
    str | None,
    typer.Option(help="Time signature, e.g. 3/4, 6/8 or 7/8; overrides the prompt."),
]
Instruments = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help='Instruments, e.g. "flute, cello, drums"; overrides the prompt.'
    ),
]
Style = Annotated[
    str | None,
    typer.Option(
        help="A style, composer or tradition, e.g. ragtime or Chopin; overrides the prompt."
    ),
]
ScoreContinueFrom = Annotated[
    Path | None,
    typer.Option("--continue-from", metavar="FILE", help="A MIDI file that the score continues."),
]
Infill = Annotated[
    str | None,
    typer.Option(metavar="BARS", help="Rewrite these bars of --continue-from, e.g. 9-12."),
]
ScoreMelody = Annotated[
    Path | None,
    typer.Option("--melody", metavar="FILE", help="A MIDI file whose melody is accompanied."),
]
ScoreBestOf = Annotated[
    int,
    typer.Option(help="Candidates per piece; the one that adheres best to the prompt is selected."),
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Sampling temperature; 1: as trained, lower is safer.", show_default="1.0"),
]
TopK = Annotated[
    int | None,
    typer.Option(help="Sample only from the K most likely values.", show_default="all"),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Sample only from the most likely values with this total probability.",
        show_default="0.95",
    ),
]
Greedy = Annotated[
    bool, typer.Option("--greedy", help="Always choose the most likely value (no sampling).")
]
ScoreGuidance = Annotated[
    float | None,
    typer.Option(
        help="Guidance scale: how strictly the prompt is followed; 1: no guidance.",
        show_default="3.0",
    ),
]
ScoreOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="PATH", help="A MIDI file (.mid) or a folder."),
]
Audio = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Also render the score to audio (.wav .flac .mp3 .ogg)."),
]
RollPlot = Annotated[
    str | None, typer.Option("--plot", metavar="PNG", help="Also plot the piano roll.")
]
Plot = Annotated[
    str | None,
    typer.Option(metavar="PNG", help="Also plot the waveform and the spectrogram."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; all cores by default.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")]
