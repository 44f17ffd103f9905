"""Joint embedding of text and music: vectors, their quantized tokens, and musical attributes.

Floor 2: may import `sound nn files values`. Read `embedding.py` first (the interface), then
`attributes.py` (what is predicted from text and audio), `text_tower.py`, `music_tower.py` with
`summary.py`, `quantizer.py`. Text is also parsed by rules: exact settings by `settings_words.py`,
instruments by `instrument_words.py`, what is excluded by `negation.py`.
"""

from melisma.joint.attributes import ATTRIBUTES, BLOCKS, AttributePrediction, target_row
from melisma.joint.embedding import JointEmbedding
from melisma.joint.music_tower import MusicTower, MusicTowerSettings
from melisma.joint.quantizer import VectorQuantizer
from melisma.joint.summary import summarise
from melisma.joint.text_tower import TextTower, TextTowerSettings

__all__ = [
    "ATTRIBUTES",
    "BLOCKS",
    "AttributePrediction",
    "JointEmbedding",
    "MusicTower",
    "MusicTowerSettings",
    "TextTower",
    "TextTowerSettings",
    "VectorQuantizer",
    "summarise",
    "target_row",
]
