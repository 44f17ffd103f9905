"""Waveform to acoustic tokens and back, whole or block by block. Floor 2: may import
`sound nn files values`.

SoundStream's idea: one residual-quantised autoencoder whose first levels alone already sound. Read
`model.py` first, then `acoustic.py`, the codec as the other floors use it; `codec/encodec/model.py`
and `codec/encodec/codec.py` are EnCodec with the weights that others published.
"""

from melisma.codec.acoustic import AcousticCodec
from melisma.codec.encodec.codec import EncodecCodec
from melisma.codec.encodec.model import Encodec, EncodecSettings
from melisma.codec.model import Codec, CodecSettings

__all__ = [
    "AcousticCodec",
    "Codec",
    "CodecSettings",
    "Encodec",
    "EncodecCodec",
    "EncodecSettings",
]
