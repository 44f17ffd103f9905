"""Semantic tokenizer: waveform to tokens of the musical content rather than the timbre. Floor 2:
may import `sound nn files values`.

Takes the role of w2v-BERT in MusicLM, with a front end that resolves semitones. Read `model.py`
first, then `tokenizer.py`.
"""

from melisma.semantic.model import SemanticEncoder, SemanticSettings
from melisma.semantic.tokenizer import SemanticTokenizer

__all__ = ["SemanticEncoder", "SemanticSettings", "SemanticTokenizer"]
