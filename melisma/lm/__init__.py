"""The tongue: one token language model for all stages of sound, and one that draws scores. Floor 3:
may import `nn files values`.

It has never heard of audio. Read `model.py` first, then `conditions.py`, `patterns.py`, `draw.py`
and `engine.py`; what each stage reads and draws stands in `train/lm.py`. `published.py` and
`words.py` make MusicGen's checkpoints such a model. For scores read `score_model.py`, then
`told_score.py`, `score_rows.py` (the orders of telling), `score_plan.py` and `draw_score.py`.
"""

from melisma.lm.conditions import Conditions, ConditionSettings
from melisma.lm.draw import draw, draw_parallel, stream
from melisma.lm.drawing import Drawing
from melisma.lm.engine import NativeEngine
from melisma.lm.model import TokenModel, TokenModelSettings
from melisma.lm.patterns import delayed, flattened, parallel

__all__ = [
    "ConditionSettings",
    "Conditions",
    "Drawing",
    "NativeEngine",
    "TokenModel",
    "TokenModelSettings",
    "delayed",
    "draw",
    "draw_parallel",
    "flattened",
    "parallel",
    "stream",
]
