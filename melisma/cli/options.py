"""Options that several commands share, each with its help text and its group on the help page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

WHAT, LENGTH, HOW, OUTPUT, ADVANCED = GROUPS = (
    "What", "How long", "How", "Output", "Advanced",
)  # fmt: skip
"""Groups of options on the help pages, in this order."""
DEFAULT_ROOM = "studio"


def one_of(*names: str) -> Callable[[str], list[str]]:
    """What shells complete the value of an option to."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


# --- What ---------------------------------------------------------------------------------------

Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="Text prompts that describe the music; each makes a piece of its own.",
    ),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help='A text file with one prompt per line; a line that starts with "#" is a comment.',
        rich_help_panel=WHAT,
    ),
]
Bpm = Annotated[
    float | None,
    typer.Option(
        metavar="BPM",
        help="Tempo in beats per minute (in 6/8, 9/8 and 12/8 the beat is a dotted quarter); "
        "overrides the prompt.",
        rich_help_panel=WHAT,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help='Musical key, e.g. "F# minor"; overrides the prompt.',
        rich_help_panel=WHAT,
    ),
]
AudioTimeSignature = Annotated[
    str | None,
    typer.Option(
        "--time-signature",
        metavar="N/N",
        help="Time signature: 2/4, 3/4, 4/4 or 6/8; overrides the prompt.",
        rich_help_panel=WHAT,
    ),
]
TimeSignature = Annotated[
    str | None,
    typer.Option(
        metavar="N/N",
        help="Time signature, e.g. 3/4, 6/8 or 7/8; overrides the prompt.",
        rich_help_panel=WHAT,
    ),
]
Instruments = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help='Instruments, e.g. "flute, cello, drums"; overrides the prompt.',
        rich_help_panel=WHAT,
    ),
]
Style = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A style, composer or tradition, e.g. ragtime or Chopin; overrides the prompt.",
        rich_help_panel=WHAT,
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="NAME",
        help="An instrument that does not play, e.g. drums; may be given several times.",
        rich_help_panel=WHAT,
    ),
]
AudioMelody = Annotated[
    Path | None,
    typer.Option(
        "--melody",
        metavar="FILE",
        help="A melody to follow: a recording that is hummed, sung, whistled or played, or a MIDI "
        "file.",
        rich_help_panel=WHAT,
    ),
]
ScoreMelody = Annotated[
    Path | None,
    typer.Option(
        "--melody",
        metavar="FILE",
        help="A melody to accompany: a MIDI file, or a recording that is hummed, sung, whistled or "
        "played.",
        rich_help_panel=WHAT,
    ),
]
AudioContinueFrom = Annotated[
    Path | None,
    typer.Option(
        "--continue-from",
        metavar="FILE",
        help="An audio file to continue: the piece starts with its end, at its sample rate and "
        "with its channels.",
        rich_help_panel=WHAT,
    ),
]
ScoreContinueFrom = Annotated[
    Path | None,
    typer.Option(
        "--continue-from",
        metavar="FILE",
        help="A MIDI file to continue: the score starts with all of it.",
        rich_help_panel=WHAT,
    ),
]
Infill = Annotated[
    str | None,
    typer.Option(
        metavar="BARS",
        help="Rewrite only these bars of --continue-from, e.g. 9-12, and keep the others.",
        rich_help_panel=WHAT,
    ),
]

# --- How long ------------------------------------------------------------------------------------

Duration = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Length of the new music in seconds, 1 to 600; what --continue-from gives comes "
        "before it.",
        rich_help_panel=LENGTH,
    ),
]
ForecastDuration = Annotated[
    float,
    typer.Option(
        "--duration",
        metavar="SECONDS",
        help="Length of the music that is planned, 1 to 600.",
        rich_help_panel=LENGTH,
    ),
]
KeepSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="How much of the end of --continue-from the piece starts with.",
        show_default="10",
        rich_help_panel=LENGTH,
    ),
]
Whole = Annotated[
    bool,
    typer.Option(
        "--whole",
        help="Write all of --continue-from before the new music, not only its end.",
        rich_help_panel=LENGTH,
    ),
]
Bars = Annotated[
    int | None,
    typer.Option(
        metavar="BARS",
        help="Length of the new music in bars; what --continue-from gives comes before it. By "
        "default as many as fill 30 seconds.",
        rich_help_panel=LENGTH,
    ),
]
ScoreDuration = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Length of the new music in seconds, 1 to 600, instead of --bars.",
        rich_help_panel=LENGTH,
    ),
]

# --- How -----------------------------------------------------------------------------------------

Count = Annotated[
    int,
    typer.Option(metavar="N", help="Number of pieces per prompt.", rich_help_panel=HOW),
]
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Random seed: the same seed gives the same music. Random by default.",
        rich_help_panel=HOW,
    ),
]
BestOf = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Candidates per piece, of which the one that matches the prompt best is kept.",
        show_default="4; 1 with --stream and for published models",
        rich_help_panel=HOW,
    ),
]
ScoreBestOf = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Candidates per piece, of which the one that matches the prompt best is kept.",
        rich_help_panel=HOW,
    ),
]
Rank = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="How candidates are ranked: words (how similar they are to the prompt) or receipt "
        "(by measured tempo, key, metre and instruments).",
        autocompletion=one_of("words", "receipt"),
        show_default="words",
        rich_help_panel=HOW,
    ),
]
Original = Annotated[
    bool,
    typer.Option(
        "--original",
        help="Sample a piece again if it is too similar to training music.",
        rich_help_panel=HOW,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="sound: generate audio; score: compose a score and render it; auto: choose by prompt.",
        autocompletion=one_of("sound", "score", "auto"),
        rich_help_panel=HOW,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A shipped model, a folder of weights, or a MusicGen model on the hub, e.g. "
        "facebook/musicgen-small; others on the hub as hub:OWNER/NAME.",
        rich_help_panel=HOW,
    ),
]

# --- Output --------------------------------------------------------------------------------------

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="An audio file (.wav .flac .mp3 .ogg) or a folder.",
        rich_help_panel=OUTPUT,
    ),
]
ScoreOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="A MIDI file (.mid) or a folder.",
        rich_help_panel=OUTPUT,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="wav, flac, mp3 or ogg, where the output is not named with an ending.",
        autocompletion=one_of("wav", "flac", "mp3", "ogg"),
        rich_help_panel=OUTPUT,
    ),
]
NoClobber = Annotated[
    bool,
    typer.Option(
        "--no-clobber",
        help="Refuse to replace files that exist; names that are not given never replace any.",
        rich_help_panel=OUTPUT,
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Write audio while it is generated: to a growing file, or with --output - to a pipe.",
        rich_help_panel=OUTPUT,
    ),
]
Audio = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Also render the score to audio (.wav .flac .mp3 .ogg).",
        rich_help_panel=OUTPUT,
    ),
]
Stems = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Also write each part alone, as audio and as MIDI.",
        rich_help_panel=OUTPUT,
    ),
]
Soundfont = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The .sf2 or .sf3 file that audio is rendered with; by default the best one on this "
        "system.",
        rich_help_panel=OUTPUT,
    ),
]
Room = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Reverberation of the audio: dry, studio or hall.",
        autocompletion=one_of("dry", "studio", "hall"),
        show_default=DEFAULT_ROOM,
        rich_help_panel=OUTPUT,
    ),
]
Plot = Annotated[
    str | None,
    typer.Option(
        metavar="PNG", help="Also plot the waveform and the spectrogram.", rich_help_panel=OUTPUT
    ),
]
RollPlot = Annotated[
    str | None,
    typer.Option("--plot", metavar="PNG", help="Also plot the piano roll.", rich_help_panel=OUTPUT),
]
Receipt = Annotated[
    bool,
    typer.Option(
        "--receipt",
        help="Also measure each piece, and report how well it matches the prompt.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document and nothing else.", rich_help_panel=OUTPUT
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=OUTPUT),
]

# --- Advanced ------------------------------------------------------------------------------------

Precision = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Precision of the language models' weights: float32, bfloat16, int8 or int4.",
        autocompletion=one_of("float32", "bfloat16", "int8", "int4"),
        show_default="float32; int8 for published models",
        rich_help_panel=ADVANCED,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", help="CPU threads; all cores by default.", rich_help_panel=ADVANCED),
]
