"""From a prompt to sound or to a score: the order of the stages. Floor 4: may import all below.

Read `song.py` for sound and `score_song.py` for scores: everything is called from there.
`asking.py` and `asking_score.py` turn words into conditions.
"""

from melisma.compose.loading import load, load_codec, load_scores
from melisma.compose.score_song import ScoreComposer, ScoreDrawing, ScorePiece, ScoreTerms
from melisma.compose.song import Composer, DrawingSettings, Piece

__all__ = [
    "Composer",
    "DrawingSettings",
    "Piece",
    "ScoreComposer",
    "ScoreDrawing",
    "ScorePiece",
    "ScoreTerms",
    "load",
    "load_codec",
    "load_scores",
]
