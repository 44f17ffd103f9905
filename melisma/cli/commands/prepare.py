"""`melisma prepare`: from folders of MIDI files to a captioned corpus of audio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import check_integer, check_real
from melisma.values.errors import MelismaError, unknown_name
from melisma.values.sampling import LARGEST_SEED

TOKEN_SECONDS = 20.0
"""Length of clips that are stored as tokens."""
_SPLITS = ("train", "held", "judge")
_WORLDS = ("broad", "small")


def prepare(
    symbolic: Annotated[
        Path,
        typer.Argument(help="A folder of corpora, each NAME/metadata.csv beside its MIDI files."),
    ],
    output: Annotated[Path, typer.Argument(help="The folder to write; created if missing.")],
    hours: Annotated[
        float, typer.Option(help="Hours of audio to render.", rich_help_panel=options.LENGTH)
    ] = 1.0,
    seed: Annotated[
        int,
        typer.Option(
            help="Random seed; the same seed renders the same corpus.", rich_help_panel=options.HOW
        ),
    ] = 0,
    split: Annotated[
        str,
        typer.Option(
            help="train, held (held out) or judge (only to train evaluation models).",
            rich_help_panel=options.WHAT,
        ),
    ] = "train",
    licences: Annotated[
        list[str] | None,
        typer.Option(
            help='Only pieces whose licence starts with this, e.g. "CC0"; can be repeated.',
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    soundfont: Annotated[
        list[Path] | None,
        typer.Option(
            help="A .sf2 or .sf3 file; can be repeated. By default those of the system.",
            rich_help_panel=options.HOW,
        ),
    ] = None,
    world: Annotated[
        str | None,
        typer.Option(
            help="Variety of the audio: broad (every soundfont, many rooms, noise) or small (what "
            "the language model learns: the first soundfont, two rooms, 27 programs). By default "
            "small with --tokens, else broad.",
            rich_help_panel=options.HOW,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="Number of processes that render in parallel.", rich_help_panel=options.ADVANCED
        ),
    ] = 1,
    tokens: Annotated[
        str | None,
        typer.Option(
            help="Name or folder of a model: write tokens of 20 s clips, made by its tokenizers, "
            "instead of audio.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
) -> None:
    """Render MIDI files to a corpus of audio clips with labels, facts and captions."""
    check_real("--hours", hours, 0.001, 100_000)
    check_integer("--seed", seed, 0, LARGEST_SEED)
    check_integer("--workers", workers, 1, 256)
    if split not in _SPLITS:
        raise MelismaError(unknown_name("split", split, _SPLITS))
    if world is not None and world not in _WORLDS:
        raise MelismaError(unknown_name("world", world, _WORLDS))
    if tokens is not None and world == "broad":
        raise MelismaError(
            "--tokens always renders the small world, which the language model learns: leave out "
            "--world broad, or leave out --tokens to write audio clips"
        )
    if not symbolic.is_dir():
        raise FileNotFoundError(f"there is no folder {symbolic}: give a folder of corpora")
    soundfonts = _soundfonts(soundfont or [])
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: give the name of a folder")

    tokenizers = None
    if tokens is not None:
        from melisma.generation.resolve import model_folder

        tokenizers = model_folder(tokens)

    from melisma.data.clips import ClipRenderer, ClipSettings
    from melisma.data.sources.pieces import read_sources

    sources = read_sources(symbolic, tuple(licences) if licences else None)
    clips = ClipSettings(seed=seed, split=split)
    if tokenizers is not None or world == "small":
        clips = replace(clips, variety="narrow", core_programs=True)
        soundfonts = soundfonts[:1]
    if tokenizers is None:
        from melisma.data.audio_shards import write_audio_shards

        write_audio_shards(output, ClipRenderer(sources, soundfonts, clips), hours, workers)
        return
    from melisma.data.token_shards import write_token_shards
    from melisma.tokenizers import TokenizerPaths

    clips = replace(clips, seconds=TOKEN_SECONDS)
    write_token_shards(
        output,
        ClipRenderer(sources, soundfonts, clips),
        TokenizerPaths.of(tokenizers),
        hours,
        workers,
    )


def _soundfonts(given: list[Path]) -> list[Path]:
    """The given soundfonts, or all of the system, FluidR3 (MIT licence) first; where it has none,
    the small one that comes with the package pretty_midi.

    Raises:
        FileNotFoundError: A given file does not exist, or there is none at all.
    """
    from melisma.symbolic.soundfont import discovery

    for path in given:
        if not path.is_file():
            raise FileNotFoundError(f"there is no soundfont {path}: give a .sf2 or .sf3 file")
    if given:
        return given
    found = {path.resolve() for path in discovery.system_soundfonts(discovery.SYSTEM_FOLDERS)}
    packaged = discovery.packaged_soundfont()
    if not found and packaged is not None:
        return [packaged]
    if not found:
        raise FileNotFoundError(
            "no soundfont was found on this system: install one (Debian: fluid-soundfont-gm), "
            "or give a .sf2 or .sf3 file with --soundfont"
        )
    return sorted(found, key=lambda path: (not path.name.startswith("FluidR3"), path.name))
