"""From a prompt to sound: the order of the stages. Floor 4: may import all below.

Read `song.py`: everything is called from there. `asking.py` turns words into conditions.
"""

from melisma.compose.loading import load, load_codec
from melisma.compose.song import Composer, DrawingSettings, Piece

__all__ = ["Composer", "DrawingSettings", "Piece", "load", "load_codec"]
