"""From a prompt to sound or to a score: the order of the stages. Floor 4: may import all below.

Read `song.py` for sound and `score_song.py` for scores: everything is called from there.
`musicgen.py` is the same for MusicGen's published weights; `pieces.py` what both offer.
`asking.py` and `asking_score.py` turn words into conditions; `capacity.py` says what a model needs.
Names are imported when they are first asked for: listing models needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from melisma.nn.idle_threads import limit_spinning

if TYPE_CHECKING:
    from melisma.compose.loading import load, load_codec, load_scores
    from melisma.compose.pieces import Piece, SoundComposer
    from melisma.compose.score_song import ScoreComposer, ScoreDrawing, ScorePiece, ScoreTerms
    from melisma.compose.song import Composer, DrawingSettings

__all__ = [
    "Composer",
    "DrawingSettings",
    "Piece",
    "ScoreComposer",
    "ScoreDrawing",
    "ScorePiece",
    "ScoreTerms",
    "SoundComposer",
    "load",
    "load_codec",
    "load_scores",
]

_HOMES = {
    "song": ("Composer", "DrawingSettings"),
    "pieces": ("Piece", "SoundComposer"),
    "score_song": ("ScoreComposer", "ScoreDrawing", "ScorePiece", "ScoreTerms"),
    "loading": ("load", "load_codec", "load_scores"),
}


def __getattr__(name: str) -> Any:
    """A public name from the file where it lives."""
    for home, names in _HOMES.items():
        if name in names:
            limit_spinning()
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
