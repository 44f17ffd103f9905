"""The joint ear: text and music in one space, the vector, its quantised words, and attributes.

Floor 2: may import `sound nn files values`. Read `embedding.py` first (what the rest of the program
uses), then `attributes.py` (what is read from words and sound), `text_tower.py`, `music_tower.py`
with `summary.py`, `quantizer.py`; `settings_words.py` finds exact settings in words.
"""

from melisma.joint.attributes import ATTRIBUTES, BLOCKS, AttributeReading, target_row
from melisma.joint.embedding import Joint
from melisma.joint.music_tower import MusicTower, MusicTowerSettings
from melisma.joint.quantizer import VectorQuantizer
from melisma.joint.summary import summarise
from melisma.joint.text_tower import TextTower, TextTowerSettings

__all__ = [
    "ATTRIBUTES",
    "BLOCKS",
    "AttributeReading",
    "Joint",
    "MusicTower",
    "MusicTowerSettings",
    "TextTower",
    "TextTowerSettings",
    "VectorQuantizer",
    "summarise",
    "target_row",
]
