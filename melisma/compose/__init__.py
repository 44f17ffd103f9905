"""From a prompt to sound or to a score: the order of the stages. Floor 4: may import all below.

Read `song.py` for sound and `score_song.py` for scores: everything is called from there.
`musicgen.py` is the same for MusicGen's published weights; `pieces.py` what both offer.
`asking.py` and `asking_score.py` turn words into conditions.
"""

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
