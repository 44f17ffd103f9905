"""Metrics over sets of pieces: judges, statistics of their figures, cards and pages.

Floor 5: may import floors 0 to 4. Read `assess.py` first: every section of a card is called from
there. `measured.py` is what is measured of one piece, by `evaluate/models/judge.py` (with
`evaluate/models/audio_features.py` and `evaluate/models/text_features.py`, its ears and its
reading), `evaluate/models/embeddings.py` and floor 3; `evaluate/references/audio.py` and
`evaluate/references/score.py` are the real music beside it. `evaluate/sections/audio.py` and
`evaluate/sections/score.py` make rows of it with `evaluate/metrics/frechet.py`,
`evaluate/metrics/divergence.py`, `evaluate/metrics/adherence.py`,
`evaluate/metrics/score_adherence.py`, `evaluate/metrics/win_rates.py` and
`evaluate/sections/bias.py`. `evaluate/report/card.py` keeps them, `evaluate/report/comparison.py`
sets two side by side, `evaluate/report/html.py` (with `evaluate/report/page.py`,
`evaluate/report/plots.py`, `evaluate/report/verdict.py`) draws them. `prompts.py` and `outputs.py`
are what is judged.

The ears themselves are measured by `evaluate/metrics/fidelity.py`, `studies/retrieval.py`,
`studies/probes.py` and `studies/free_words.py`, makers by
`evaluate/models/tradition_classifier.py`, what the semantic stage knows by heart by
`studies/semantic_memorisation.py`; their commands are in `benchmarks/`.
"""

from melisma.evaluate.metrics.figures import Figure
from melisma.evaluate.metrics.statistics import Interval
from melisma.evaluate.models.judge import Judge, Verdict

__all__ = ["Figure", "Interval", "Judge", "Verdict"]
