"""`melisma demo`: a small corpus, a hummed tune and prompts, to try every command with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import check_integer
from melisma.cli.progress import progress_bar
from melisma.values.sampling import LARGEST_SEED


def demo(
    folder: Annotated[
        Path, typer.Argument(help="The folder to write into; created if missing.")
    ] = Path("demo"),
    pieces: Annotated[
        int, typer.Option(help="Number of pieces in the corpus.", rich_help_panel=options.LENGTH)
    ] = 48,
    seed: Annotated[
        int, typer.Option(help="Random seed of the first piece.", rich_help_panel=options.HOW)
    ] = 0,
    quiet: options.Quiet = False,
) -> None:
    """Write files to try every command with: a small corpus, a hummed tune, a list of prompts."""
    from melisma.recipes.demo import FEWEST_PIECES, check_demo, write_demo

    check_integer("--pieces", pieces, FEWEST_PIECES, 10_000)
    check_integer("--seed", seed, 0, LARGEST_SEED)
    check_demo(folder)

    from melisma.generation.loading import load_scores

    with progress_bar("composing", quiet=quiet) as report:
        written = write_demo(
            folder,
            load_scores("default"),
            pieces=pieces,
            seed=seed,
            progress=lambda done, whole: report(done / whole),
        )
    if not quiet:
        print("\n".join(str(path) for path in written))
