"""`melisma encode`: from an audio file to a token file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import check_integer
from melisma.cli.progress import progress_bar


def encode(
    sound: Annotated[Path, typer.Argument(help="An audio file: WAV, FLAC, MP3 or OGG.")],
    tokens: Annotated[Path, typer.Argument(help="The token file to write (.mlt).")],
    levels: Annotated[
        int | None, typer.Option(help="Number of quantizer levels to keep; all by default.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Encode an audio file as a compact token file."""
    from melisma.files import read_audio, write_tokens
    from melisma.files.tokens import check_token_path

    check_integer("--levels", levels, 1, 64)
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
