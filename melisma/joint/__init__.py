"""The joint ear: text and music in one space, the vector, its quantised words, and attributes.

Floor 2: may import `sound nn files values`. Read `embedding.py` first (what the rest of the program
uses), then `attributes.py` (what is read from words and sound), `text.py`, `music.py` with
`summary.py`, `quantise.py`; `settings_words.py` finds exact settings in words.
"""

from melisma.joint.attributes import ATTRIBUTES, BLOCKS, AttributeReading, target_row
from melisma.joint.embedding import Joint
from melisma.joint.music import MusicTower, MusicTowerSettings
from melisma.joint.quantise import VectorQuantiser
from melisma.joint.summary import summarise
from melisma.joint.text import TextTower, TextTowerSettings

__all__ = [
    "ATTRIBUTES",
    "BLOCKS",
    "AttributeReading",
    "Joint",
    "MusicTower",
    "MusicTowerSettings",
    "TextTower",
    "TextTowerSettings",
    "VectorQuantiser",
    "summarise",
    "target_row",
]
