"""`melisma decode`: from a token file to an audio file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli import options
from melisma.cli.progress import progress_bar


def decode(
    tokens: Annotated[Path, typer.Argument(help="A token file (.mlt).")],
    sound: Annotated[Path, typer.Argument(help="The audio file to write.")],
    quiet: options.Quiet = False,
) -> None:
    """Decode a token file to audio."""
    from melisma.files import read_tokens, write_audio
    from melisma.files.audio import check_audio_path

    check_audio_path(sound)
    grid = read_tokens(tokens)
    with progress_bar("decoding", quiet=quiet):
        from melisma.generation.loading import load_codec

        waveform = load_codec().decode(grid)
    write_audio(sound, waveform, None)
    if not quiet:
        print(f"{sound}  ({waveform.seconds:g} s)")
