"""Melisma: words, a hummed tune or a recording become music, as sound and as notes.

Read one file per floor to know the program: `values/__init__.py`, `generation/musiclm.py` (a prompt
becomes sound), `generation/score/pipeline.py` (a prompt becomes a score), `recipes/__init__.py` (a
folder becomes weights).
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melisma.generation import ScoreComposer, SoundComposer

try:
    __version__ = version("melisma")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"


def load(
    model: str = "default", threads: int | None = None, *, precision: str | None = None
) -> SoundComposer:
    """Load a composer: the shipped weights, those of a name or path, or published ones of MusicGen.

    `threads` limits the processor threads; `precision`: how the weights that draw are kept,
    "float32", "bfloat16", "int8" or "int4". Raises `ValueError` for an unknown model. Torch is
    loaded here, not before.
    """
    from melisma.generation import load as load_composer

    return load_composer(model, threads, precision=precision)


def load_scores(model: str = "default", threads: int | None = None) -> ScoreComposer:
    """Load a composer of scores: the shipped weights, or those of a name or path.

    `threads` limits the processor threads. Raises `ValueError` for an unknown model, `OSError` for
    one that has no score model. Torch is loaded here, not before.
    """
    from melisma.generation import load_scores as load_composer

    return load_composer(model, threads)
