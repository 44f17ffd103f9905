"""`melisma encode` and `melisma decode`: from an audio file to a token file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import check_integer, input_file
from melisma.cli.output_paths import (
    chooses_names,
    companion_path,
    is_standard_output,
    made_folders,
)
from melisma.cli.places import check_places
from melisma.cli.progress import progress_bar
from melisma.cli.receipts import print_remarks


def encode(
    sound: Annotated[
        Path, typer.Argument(help="An audio file: WAV, FLAC, MP3 or OGG; - for standard input.")
    ],
    tokens: Annotated[
        str,
        typer.Argument(help="The token file to write (.mlt), a folder for it, or - for a pipe."),
    ],
    levels: Annotated[
        int | None,
        typer.Option(
            help="Number of quantizer levels to keep; all by default.", rich_help_panel=options.HOW
        ),
    ] = None,
    no_clobber: options.NoClobber = False,
    quiet: options.Quiet = False,
) -> None:
    """Encode an audio file as a compact token file."""
    from melisma.files import write_tokens
    from melisma.files.names import replaced_paths
    from melisma.files.tokens import TOKEN_ENDING, check_token_path, pack_tokens
    from melisma.recordings import read_and_repair

    check_integer("--levels", levels, 1, 64)
    sound = input_file(sound)
    path = companion_path(tokens, sound, TOKEN_ENDING, check_token_path)
    check_places(
        {"the token file": [path]}, sources={"the recording": sound}, no_clobber=no_clobber
    )
    found = read_and_repair(sound)
    print_remarks(found.remarks, quiet=quiet)
    with progress_bar("encoding", quiet=quiet):
        from melisma.generation.loading import load_codec

        grid = load_codec().encode(found.waveform, levels)
    replaced = ", replaced" if replaced_paths(path) else ""
    with made_folders(path):
        write_tokens(path, grid, replace=not no_clobber and not chooses_names(tokens))
    if not quiet and not is_standard_output(path):
        size_bytes = len(pack_tokens(grid))
        rate = 8 * size_bytes / max(grid.seconds, 1e-9)
        facts = f"{size_bytes} bytes, {grid.seconds:g} s, {rate / 1000:.2f} kbit/s{replaced}"
        print(f"{path}  ({facts})")


def decode(
    tokens: Annotated[Path, typer.Argument(help="A token file (.mlt); - for standard input.")],
    sound: Annotated[
        str, typer.Argument(help="The audio file to write, a folder for it, or - for a pipe.")
    ],
    no_clobber: options.NoClobber = False,
    quiet: options.Quiet = False,
) -> None:
    """Decode a token file to audio."""
    from melisma.files import read_tokens, write_audio
    from melisma.files.audio import check_audio_path
    from melisma.files.names import replaced_paths

    tokens = input_file(tokens)
    path = companion_path(sound, tokens, ".wav", check_audio_path)
    check_places(
        {"the audio file": [path]}, sources={"the token file": tokens}, no_clobber=no_clobber
    )
    grid = read_tokens(tokens)
    with progress_bar("decoding", quiet=quiet):
        from melisma.generation.loading import load_codec

        waveform = load_codec().decode(grid)
    replaced = ", replaced" if replaced_paths(path) else ""
    with made_folders(path):
        write_audio(path, waveform, replace=not no_clobber and not chooses_names(sound))
    if not quiet and not is_standard_output(path):
        print(f"{path}  ({waveform.seconds:g} s{replaced})")
