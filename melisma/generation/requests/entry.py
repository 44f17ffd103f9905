"""The first lines of the Python API: `melisma.load`, `melisma.generate` and `melisma.compose`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from melisma.generation.requests.audio import AudioResult
from melisma.generation.requests.facade import MelismaPipeline
from melisma.generation.requests.score import ScoreResult
from melisma.values.model_ref import ModelRef


def load(
    model: str | Path | ModelRef = "default",
    *,
    threads: int | None = None,
    precision: str | None = None,
    device: str = "auto",
) -> MelismaPipeline:
    """Loads a model.

    Args:
        model: A shipped model's name, a folder of weights, or a MusicGen checkpoint on the hub,
            e.g. "facebook/musicgen-small" or "hub:owner/name".
        threads: Processor threads; all cores by default.
        precision: Of the language models' weights: "float32", "bfloat16", "int8" or "int4".
        device: "cpu", "cuda" or "auto", where MusicGen runs.

    Returns:
        A pipeline with `generate`, `compose`, `encode` and `decode`; networks are read when they
        are first needed.

    Raises:
        MelismaError: There is no such model.
    """
    return MelismaPipeline(model, threads=threads, precision=precision, device=device)


@lru_cache(maxsize=1)
def _loaded(model: str) -> MelismaPipeline:
    """The model of the last call, so that a second piece does not load it again."""
    return load(model)


def generate(prompt: str, *, model: str = "default", **settings: Any) -> AudioResult:
    """Generates one piece of audio; see `MelismaPipeline.generate` for all settings.

    Args:
        prompt: What to play.
        model: As `load` takes it.
        settings: As `MelismaPipeline.generate` takes them: `duration`, `seed`, `key`, ...

    Raises:
        MelismaError: As `MelismaPipeline.generate`.
    """
    return _loaded(model).generate(prompt, **settings)


def compose(prompt: str, *, model: str = "default", **settings: Any) -> ScoreResult:
    """Composes one score; see `MelismaPipeline.compose` for all settings.

    Args:
        prompt: What to play.
        model: As `load` takes it.
        settings: As `MelismaPipeline.compose` takes them: `bars`, `instruments`, `style`, ...

    Raises:
        MelismaError: As `MelismaPipeline.compose`.
    """
    return _loaded(model).compose(prompt, **settings)
