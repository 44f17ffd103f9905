"""Who made a piece: the same provenance for drawn sound and for scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import melisma

if TYPE_CHECKING:
    from melisma.compose import Composer, ScoreComposer
    from melisma.files import Provenance


def provenance_of(
    composer: Composer | ScoreComposer, words: str, seed: int, drawn: dict[str, object]
) -> Provenance:
    """What a file of the composer says of itself; `drawn`: how it was drawn, fit for JSON."""
    from melisma.files import Provenance

    return Provenance(
        prompt=words,
        seed=seed,
        model=composer.name,
        fingerprint=composer.fingerprint,
        licence=composer.licence,
        settings=json.dumps(drawn, ensure_ascii=False),
        version=melisma.__version__,
    )
