"""`melisma encode`: from a sound file to a token file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import whole
from melisma.cli.progress import progress_bar


def encode(
    sound: Annotated[Path, typer.Argument(help="A sound file: WAV, FLAC, MP3 or OGG.")],
    tokens: Annotated[Path, typer.Argument(help="The token file to write (.mlt).")],
    levels: Annotated[
        int | None, typer.Option(help="Levels of the quantiser to keep; all if missing.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Turn sound into a compact token file."""
    from melisma.files import read_audio, write_tokens
    from melisma.files.tokens import check_token_path

    whole("--levels", levels, 1, 64)
    check_token_path(tokens)
    waveform = read_audio(sound)
    with progress_bar("encoding", quiet=quiet):
        from melisma.generation.loading import load_codec

        grid = load_codec().encode(waveform, levels)
    write_tokens(tokens, grid)
    if not quiet:
        size_bytes = tokens.stat().st_size
        rate = 8 * size_bytes / max(grid.seconds, 1e-9)
        print(f"{tokens}  ({size_bytes} bytes, {grid.seconds:g} s, {rate / 1000:.2f} kbit/s)")
