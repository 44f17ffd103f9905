"""Training recipes: the runs behind `melisma train`, from prepared data to a model folder.

Floor 9: may import `train` and all floors below it. Read `chain.py` first: it is `melisma train
all`, from a folder of clips to a model folder. `sizes.py` has the settings of every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from melisma.recipes.names import RECIPES, SIZES, present_recipe
from melisma.values.errors import MelismaError

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
    """Runs a recipe.

    Torch is imported only after the name is checked.

    Args:
        recipe: one of `RECIPES`, or a former name of one.
        data: the prepared data.
        output: the folder of the run.
        resume: continue the training in `output`, which is refused otherwise.
        changes: settings by their dotted names, as on the command line.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        MelismaError: for an unknown recipe or setting, a folder that another process uses, or a
            training that cannot be continued like this.
    """
    recipe = present_recipe(recipe)
    if recipe not in RECIPES:
        raise MelismaError(f'no recipe "{recipe}": known are {", ".join(RECIPES)}')
    from melisma.recipes.chain import run

    run(recipe, data=data, output=output, resume=resume, changes=dict(changes or {}), device=device)
