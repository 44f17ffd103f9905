"""`melisma prepare`: from folders of notation to a captioned corpus of sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from melisma.cli.arguments import LARGEST_SEED, real, whole
from melisma.values.errors import MelismaError

_SOUNDFONT_FOLDERS = (
    Path("/usr/share/sounds/sf2"),
    Path("/usr/share/sounds/sf3"),
    Path("/usr/share/soundfonts"),
)
"""Where Debian, Fedora and Arch keep soundfonts."""
TOKEN_SECONDS = 20.0
"""Length of a clip that is kept as tokens."""
_SPLITS = ("train", "held", "judge")


def prepare(
    symbolic: Annotated[
        Path, typer.Argument(help="A folder of corpora: NAME/metadata.csv with its MIDI files.")
    ],
    output: Annotated[Path, typer.Argument(help="The folder to write; it is made if missing.")],
    hours: Annotated[float, typer.Option(help="Hours of sound to render.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed renders the same corpus.")] = 0,
    split: Annotated[
        str, typer.Option(help="train, held (never learnt from) or judge (for judges only).")
    ] = "train",
    licences: Annotated[
        list[str] | None,
        typer.Option(help='Only rows whose licence begins so, e.g. "CC0"; repeat for more.'),
    ] = None,
    soundfont: Annotated[
        list[Path] | None,
        typer.Option(help="A .sf2 or .sf3 file; repeat for more. The system's if missing."),
    ] = None,
    world: Annotated[
        str | None,
        typer.Option(
            help="broad (every soundfont, many rooms, noise) or small (what the language model "
            "learns: the first soundfont, two rooms, 27 programs). Small with --tokens, else broad."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that render side by side.")] = 1,
    tokens: Annotated[
        str | None,
        typer.Option(
            help="A model's name or folder: write tokens of 20 s clips by its ears, no sound."
        ),
    ] = None,
) -> None:
    """Render real scores and grooves to clips of sound with labels, facts and captions."""
    real("--hours", hours, 0.001, 100_000)
    whole("--seed", seed, 0, LARGEST_SEED)
    whole("--workers", workers, 1, 256)
    if split not in _SPLITS:
        raise MelismaError(f'no split "{split}": known are {", ".join(_SPLITS)}')
    if world not in (None, "broad", "small"):
        raise MelismaError(f'no world "{world}": known are broad, small')
    if tokens is not None and world == "broad":
        raise MelismaError(
            "--tokens renders what the language model learns, the small world: leave --world broad "
            "out, or write clips of sound without --tokens"
        )
    if not symbolic.is_dir():
        raise FileNotFoundError(f"there is no folder {symbolic}: give one that holds corpora")
    soundfonts = _soundfonts(soundfont or [])
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: give the name of a folder")
    if not output.parent.exists():
        raise FileNotFoundError(
            f"the folder {output.parent} does not exist: create it, or choose another"
        )

    ears = None
    if tokens is not None:
        from melisma.generation.resolve import model_folder

        ears = model_folder(tokens)

    from melisma.data.clips import ClipRenderer, ClipSettings
    from melisma.data.sources.pieces import read_sources

    sources = read_sources(symbolic, tuple(licences) if licences else None)
    clips = ClipSettings(seed=seed, split=split)
    if ears is not None or world == "small":
        clips = replace(clips, variety="narrow", core_programs=True)
        soundfonts = soundfonts[:1]
    if ears is None:
        from melisma.data.audio_shards import write_audio_shards

        write_audio_shards(output, ClipRenderer(sources, soundfonts, clips), hours, workers)
        return
    from melisma.data.token_shards import write_token_shards
    from melisma.tokenizers import TokenizerPaths

    clips = replace(clips, seconds=TOKEN_SECONDS)
    write_token_shards(
        output, ClipRenderer(sources, soundfonts, clips), TokenizerPaths.of(ears), hours, workers
    )


def _soundfonts(given: list[Path]) -> list[Path]:
    """Those given, or each of the system's once, FluidR3 (MIT licence) first."""
    for path in given:
        if not path.is_file():
            raise FileNotFoundError(f"there is no soundfont {path}: name a .sf2 or .sf3 file")
    if given:
        return given
    found = {
        path.resolve()
        for folder in _SOUNDFONT_FOLDERS
        for path in sorted(folder.glob("*.sf[23]"))
        if path.is_file()
    }
    if not found:
        raise FileNotFoundError(
            "no soundfont was found on this system: install one (Debian: fluid-soundfont-gm), "
            "or name a .sf2 or .sf3 file with --soundfont"
        )
    return sorted(found, key=lambda path: (not path.name.startswith("FluidR3"), path.name))
