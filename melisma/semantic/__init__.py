"""Waveform to semantic tokens: what is played, not how it sounds. Floor 2: may import
`sound nn files values`.

w2v-BERT's place in MusicLM, with a front end that can tell semitones apart. Read `model.py` first,
then `tokenizer.py`.
"""

from melisma.semantic.model import SemanticEncoder, SemanticSettings
from melisma.semantic.tokenizer import SemanticTokenizer

__all__ = ["SemanticEncoder", "SemanticSettings", "SemanticTokenizer"]
