"""Waveform to acoustic tokens and back, whole or block by block. Floor 2: may import
`sound nn files values`.

SoundStream's idea: one residual-quantised autoencoder whose first levels alone already sound.
Read `model.py` first, then `acoustic.py`, the codec as the other floors use it.
"""

from melisma.codec.acoustic import AcousticCodec
from melisma.codec.model import Codec, CodecSettings

__all__ = ["AcousticCodec", "Codec", "CodecSettings"]
