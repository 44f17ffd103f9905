"""The options of the verbs, each with its words of help, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Prompts = Annotated[
    list[str] | None, typer.Argument(help="What to play; several give several pieces.")
]
PromptsFile = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help='A prompt on each line; "#" comments.'),
]
Duration = Annotated[float, typer.Option(metavar="SECONDS", help="Length of each piece, 1 to 600.")]
Seed = Annotated[
    int | None, typer.Option(help="The same seed gives the same music; random if missing.")
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="A file (.wav .flac .mp3 .ogg) or a folder."
    ),
]
Count = Annotated[int, typer.Option(help="Pieces for each prompt.")]
BestOf = Annotated[
    int | None,
    typer.Option(
        help="Candidates for each piece; the one nearest to the words is kept.",
        show_default="4; 1 with --stream and for published models",
    ),
]
Tune = Annotated[
    Path | None,
    typer.Option(
        "--melody", metavar="FILE", help="Sound whose tune is followed: hummed, sung or played."
    ),
]
GoOnFrom = Annotated[
    Path | None,
    typer.Option("--continue-from", metavar="FILE", help="Sound whose end the piece goes on from."),
]
KeepSeconds = Annotated[
    float | None,
    typer.Option(
        help="How much of the end of --continue-from the piece begins with.", show_default="10"
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Weights that draw: float32, bfloat16, int8 or int4.",
        show_default="float32; int8 for published models",
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Write sound while it is drawn: to a file that grows, or with --output - to a pipe.",
    ),
]
SoundTemperature = Annotated[
    float | None,
    typer.Option("--temperature", help="Boldness of a single-stage model.", show_default="1.0"),
]
SoundTopK = Annotated[
    int | None,
    typer.Option(
        "--top-k", help="Only its K likeliest tokens may be drawn; 0: all.", show_default="250"
    ),
]
SoundTopP = Annotated[
    float | None,
    typer.Option(
        "--top-p", help="Only its likeliest tokens that together hold this.", show_default="1.0"
    ),
]
Rank = Annotated[
    str,
    typer.Option(
        help="What candidates are ranked by: words (the joint embedding), or receipt (measured "
        "tempo, tonality, metre, instruments)."
    ),
]
Receipt = Annotated[
    bool, typer.Option("--receipt", help="Also measure each piece and say what it keeps to.")
]
Original = Annotated[
    bool,
    typer.Option("--original", help="Draw again what is too near to music the model learned from."),
]
Bpm = Annotated[float | None, typer.Option(help="Tempo, over that of the words.")]
Key = Annotated[str | None, typer.Option(help='Tonality, over that of the words, e.g. "F# minor".')]
Metre = Annotated[str | None, typer.Option(help="2/4, 3/4, 4/4 or 6/8.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="How strictly the prompt is followed (by the semantic stage, where there is one).",
        show_default="2.0; 3.0 of single-stage models",
    ),
]
GuidanceCoarse = Annotated[
    float | None, typer.Option(help="The same for the coarse acoustic stage.", show_default="2.5")
]
TemperatureSemantic = Annotated[
    float | None,
    typer.Option(help="Boldness of the notes; 1 as learnt, less is safer.", show_default="0.85"),
]
TopKSemantic = Annotated[
    int | None,
    typer.Option(help="Only the K likeliest semantic tokens may be drawn.", show_default="200"),
]
TemperatureCoarse = Annotated[
    float | None, typer.Option(help="Boldness of the timbre.", show_default="0.85")
]
TopKCoarse = Annotated[
    int | None,
    typer.Option(help="Only the K likeliest coarse tokens may be drawn.", show_default="60"),
]
TemperatureFine = Annotated[
    float | None, typer.Option(help="Boldness of the fine detail.", show_default="0.4")
]
Engine = Annotated[
    str,
    typer.Option(help="sound: drawn sound; score: notes, rendered; auto: what suits the words."),
]
Model = Annotated[
    str,
    typer.Option(
        help="A shipped model's name, a folder of weights, or a name on the hub, e.g. "
        "facebook/musicgen-small."
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="wav, flac, mp3 or ogg, where the output has no ending."),
]
Soundfont = Annotated[
    Path | None,
    typer.Option(help="A .sf2 or .sf3 file; the best of the system if missing."),
]
Room = Annotated[str, typer.Option(help="dry, studio or hall.")]
Stems = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Also write each part alone, as sound and as MIDI."),
]
Bars = Annotated[int | None, typer.Option(help="How many bars; 30 seconds' worth if missing.")]
ScoreDuration = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Length instead of bars, 1 to 600.")
]
TimeSignature = Annotated[
    str | None, typer.Option(help="Metre, over that of the words, e.g. 3/4, 6/8 or 7/8.")
]
Instruments = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help='Who plays, over the words, e.g. "flute, cello, drums".'),
]
Style = Annotated[
    str | None,
    typer.Option(help="A style, composer or tradition, over the words, e.g. ragtime or Chopin."),
]
ContinueFrom = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A MIDI file that the score goes on from.")
]
Infill = Annotated[
    str | None,
    typer.Option(metavar="BARS", help="Write these bars of --continue-from anew, e.g. 9-12."),
]
Melody = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A MIDI file whose tune is accompanied.")
]
ScoreBestOf = Annotated[
    int,
    typer.Option(help="Candidates for each piece; the one that keeps best to the prompt stays."),
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Boldness of the notes; 1 as learnt, less is safer.", show_default="1.0"),
]
TopK = Annotated[
    int | None,
    typer.Option(help="Only the K likeliest values may be drawn.", show_default="all"),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Only the likeliest values that together hold this share.", show_default="0.95"
    ),
]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always take the likeliest value.")]
ScoreGuidance = Annotated[
    float | None,
    typer.Option(help="How strictly the prompt is followed; 1 as learnt.", show_default="3.0"),
]
ScoreOutput = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="PATH", help="A MIDI file (.mid) or a folder."),
]
Audio = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Also write the sound (.wav .flac .mp3 .ogg)."),
]
RollPlot = Annotated[
    str | None, typer.Option("--plot", metavar="PNG", help="Also draw the piano roll.")
]
Plot = Annotated[
    str | None,
    typer.Option(metavar="PNG", help="Also draw the waveform and the spectrogram."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads; all cores if missing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")]
