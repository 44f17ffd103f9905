"""Provenance of generated pieces: the same for audio and for scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import melisma
from melisma.files import Provenance
from melisma.generation.pipeline import Pipeline


def provenance_of(
    pipeline: Pipeline[Any, Any, Any], words: str, seed: int, settings: Mapping[str, object]
) -> Provenance:
    """What a file says of itself.

    Args:
        pipeline: The model that made the piece.
        words: Of the prompt.
        seed: Of the piece.
        settings: How it was made, fit for JSON.
    """
    return Provenance(
        prompt=words,
        seed=seed,
        model=pipeline.name,
        fingerprint=pipeline.fingerprint,
        licence=pipeline.licence,
        settings=json.dumps(settings, ensure_ascii=False),
        version=melisma.__version__,
    )
