"""Facts about one piece of sound or of notes: tempo, tonality, metre, faults, pictures.

Floor 3: may import floors 0 to 2. Signal processing only, nothing here is trained: these
functions also judge what the trained parts make. Read `onsets.py` first, then `tempo.py`; what is
measured from notes is in `score_tempo.py` and its neighbours, the picture in `piano_roll.py`.
`faults.py` gathers what no music has, `receipt.py` what was asked against what is there;
`clip_index.py` (with the limits of `clip_limits.py`), `melody_index.py` and `melody_prints.py` find
the training music that is near to a piece.
"""

from melisma.measure.artefacts import Artefacts, find_artefacts
from melisma.measure.levels import LevelChanges, measure_levels
from melisma.measure.onsets import OnsetScore, find_onsets, score_onsets
from melisma.measure.tempo import TempoEstimate, measure_tempo
from melisma.measure.tonality import TonalityEstimate, measure_tonality

__all__ = [
    "Artefacts",
    "LevelChanges",
    "OnsetScore",
    "TempoEstimate",
    "TonalityEstimate",
    "find_artefacts",
    "find_onsets",
    "measure_levels",
    "measure_tempo",
    "measure_tonality",
    "score_onsets",
]
