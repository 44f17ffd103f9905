"""Options for how tokens are sampled, of the audio models by stage and of the score model."""

from __future__ import annotations

from typing import Annotated

import typer

from melisma.cli.options import ADVANCED

Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="SCALE",
        help="Guidance scale: how strictly the prompt is followed (of models in three stages: by "
        "the semantic stage).",
        show_default="2.0; 3.0 of single-stage models",
        rich_help_panel=ADVANCED,
    ),
]
GuidanceCoarse = Annotated[
    float | None,
    typer.Option(
        metavar="SCALE",
        help="Guidance scale of the coarse stage.",
        show_default="2.5",
        rich_help_panel=ADVANCED,
    ),
]
TemperatureSemantic = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Sampling temperature of the semantic stage (the notes); lower is safer.",
        show_default="0.85",
        rich_help_panel=ADVANCED,
    ),
]
TopKSemantic = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        help="Sample only from the K most likely semantic tokens.",
        show_default="200",
        rich_help_panel=ADVANCED,
    ),
]
TemperatureCoarse = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Sampling temperature of the coarse stage (the timbre).",
        show_default="0.85",
        rich_help_panel=ADVANCED,
    ),
]
TopKCoarse = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        help="Sample only from the K most likely coarse tokens.",
        show_default="60",
        rich_help_panel=ADVANCED,
    ),
]
TemperatureFine = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Sampling temperature of the fine stage (the detail), of models that have one.",
        show_default="0.4",
        rich_help_panel=ADVANCED,
    ),
]
SoundTemperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        help="Sampling temperature of single-stage models; lower is safer.",
        show_default="1.0",
        rich_help_panel=ADVANCED,
    ),
]
SoundTopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        help="Sample only from the K most likely tokens (single-stage models); 0: from all.",
        show_default="250",
        rich_help_panel=ADVANCED,
    ),
]
SoundTopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Sample only from the most likely tokens, as many as have this probability together "
        "(MusicGen).",
        show_default="1.0",
        rich_help_panel=ADVANCED,
    ),
]
ScoreGuidance = Annotated[
    float | None,
    typer.Option(
        metavar="SCALE",
        help="Guidance scale: how strictly the prompt is followed; 1: no guidance.",
        show_default="3.0",
        rich_help_panel=ADVANCED,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        metavar="T",
        help="Sampling temperature; 1: as trained, lower is safer.",
        show_default="1.0",
        rich_help_panel=ADVANCED,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        help="Sample only from the K most likely values.",
        show_default="all",
        rich_help_panel=ADVANCED,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Sample only from the most likely values, as many as have this probability together.",
        show_default="0.95",
        rich_help_panel=ADVANCED,
    ),
]
Greedy = Annotated[
    bool,
    typer.Option(
        "--greedy",
        help="Always choose the most likely value, without chance.",
        rich_help_panel=ADVANCED,
    ),
]
