"""The tongue: one token language model for all stages of sound, and one that draws scores. Floor 3:
may import `nn files values`.

It has never heard of audio. Read `model.py` first, then `conditioning.py`, `patterns.py`,
`engine/generate.py` and `engine/cpu.py`; what each stage reads and draws stands in `train/lm.py`.
`musicgen_weights.py` and `text_encoder.py` make MusicGen's checkpoints such a model. For scores
read `lm/score/model.py`, then `lm/score/conditioning.py`, `lm/score/rows.py` (the orders of
telling), `lm/score/plan.py` and `engine/score_generate.py`.
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
