"""One function per shipped run that returns its whole settings tree; sizes differ by a few numbers.

Floor 7: may import `train` and the settings below. Read `chain.py` first: `melisma train all` is
that page, from a folder of clips to a model's folder. `sizes.py` holds the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from melisma.recipes.names import RECIPES, SIZES

__all__ = ["RECIPES", "SIZES", "run_recipe"]


def run_recipe(
    recipe: str,
    *,
    data: Path,
    output: Path,
    resume: bool = False,
    changes: Mapping[str, str] | None = None,
    device: str = "auto",
) -> None:
    """Runs a recipe by name; `ValueError` where there is none. Nothing heavy loads before that."""
    if recipe not in RECIPES:
        raise ValueError(f'no recipe "{recipe}": known are {", ".join(RECIPES)}')
    from melisma.recipes.chain import run

    run(recipe, data=data, output=output, resume=resume, changes=dict(changes or {}), device=device)
