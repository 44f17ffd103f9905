"""Neural audio codecs: waveform to acoustic tokens and back, whole or streaming. Floor 2: may
import `sound nn files values`.

After SoundStream: one residual-quantized autoencoder of which every prefix of levels is decodable.
Read `model.py` first, then `acoustic.py`, the codec as other folders use it;
`codec/encodec/model.py` and `codec/encodec/codec.py` are EnCodec with published weights.
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
