"""From a prompt to sound or to a score: the order of the stages. Floor 4: may import all below.

Read `musiclm.py` for sound and `generation/score/pipeline.py` for scores: everything is called from
there. `musicgen.py` is the same for MusicGen's published weights; `pipeline.py` what both offer.
`generation/conditioning/prompt.py` and `generation/score/prompt_conditioning.py` turn words into
conditions; `engine/resources/memory.py` says what a model needs. Names are imported when they are
first asked for: listing models needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from melisma.nn.idle_threads import limit_spinning

if TYPE_CHECKING:
    from melisma.generation.loading import load, load_codec, load_scores
    from melisma.generation.musiclm import Composer, MusicLMSampling
    from melisma.generation.pipeline import Piece, SoundComposer
    from melisma.generation.score.pipeline import (
        ScoreComposer,
        ScorePiece,
        ScoreSampling,
        ScoreTerms,
    )

__all__ = [
    "Composer",
    "MusicLMSampling",
    "Piece",
    "ScoreComposer",
    "ScorePiece",
    "ScoreSampling",
    "ScoreTerms",
    "SoundComposer",
    "load",
    "load_codec",
    "load_scores",
]

_HOMES = {
    "musiclm": ("Composer", "MusicLMSampling"),
    "pipeline": ("Piece", "SoundComposer"),
    "score.pipeline": ("ScoreComposer", "ScoreSampling", "ScorePiece", "ScoreTerms"),
    "loading": ("load", "load_codec", "load_scores"),
}


def __getattr__(name: str) -> Any:
    """A public name from the file where it lives."""
    for home, names in _HOMES.items():
        if name in names:
            limit_spinning()
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
