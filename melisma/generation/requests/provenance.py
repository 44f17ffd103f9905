"""Who made a piece: the same provenance for drawn sound and for scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import melisma
from melisma.files import Provenance

if TYPE_CHECKING:
    from melisma.generation.pipeline import SoundComposer
    from melisma.generation.score.pipeline import ScoreComposer


def provenance_of(
    composer: SoundComposer | ScoreComposer, words: str, seed: int, drawn: Mapping[str, object]
) -> Provenance:
    """What a file of the composer says of itself; `drawn`: how it was drawn, fit for JSON."""
    return Provenance(
        prompt=words,
        seed=seed,
        model=composer.name,
        fingerprint=composer.fingerprint,
        licence=composer.licence,
        settings=json.dumps(drawn, ensure_ascii=False),
        version=melisma.__version__,
    )
