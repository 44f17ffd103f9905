"""Token language models: one for all stages of sound, and the score model. Floor 4.

They know tokens and conditions, and have no notion of audio. Read `model.py` first, then
`conditioning.py` and `patterns.py`; how tokens are sampled is in `engine`. `musicgen_weights.py`
and `text_encoder.py` make such a model of MusicGen's checkpoints. For scores read `score/model.py`,
then `score/conditioning.py`, `score/rows.py` and `score/state.py`.
"""

from melisma.lm.conditioning import Conditioning, ConditioningSettings
from melisma.lm.model import TokenModel, TokenModelSettings
from melisma.lm.patterns import delayed, flattened, parallel

__all__ = [
    "Conditioning",
    "ConditioningSettings",
    "TokenModel",
    "TokenModelSettings",
    "delayed",
    "flattened",
    "parallel",
]
