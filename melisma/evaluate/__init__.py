"""Evaluation of generated music: models that judge, metrics with intervals, cards and reports.

Floor 7: may import floors -1 to 6. Read `assess.py` first: it calls every section of a card.
`measured.py` measures one piece, with `models/judge.py` (whose features are in
`models/audio_features.py` and `models/text_features.py`), `models/embedding.py`,
`models/embeddings.py` and floor 3; `references/audio.py` and `references/score.py` hold the same
measurements of real music. `sections/audio.py`, `sections/score.py` and `sections/bias.py` turn
them into rows, with `metrics/frechet.py`, `metrics/divergence.py`, `metrics/adherence.py`,
`metrics/score_adherence.py` and `metrics/win_rates.py`. `report/card.py` stores the rows,
`report/comparison.py` compares two cards, `report/html.py` (with `report/page.py`,
`report/plots.py`, `report/verdict.py` and the templates) renders them. `prompts.py` and
`outputs.py` supply the prompts and the outputs that are judged; `legacy_keys.py` names the keys of
older files.

The codec is measured by `metrics/fidelity.py`, the tokenizers by `benchmarks/studies/retrieval.py`,
`benchmarks/studies/probes.py` and `benchmarks/studies/free_words.py`, traditions are recognised by
`models/tradition_classifier.py`, and what the semantic stage has memorised is measured by
`benchmarks/studies/semantic_memorisation.py`; their commands are in `benchmarks/`.
"""

from melisma.evaluate.metrics.figures import Figure
from melisma.evaluate.metrics.statistics import Interval
from melisma.evaluate.models.judge import Judge, Verdict

__all__ = ["Figure", "Interval", "Judge", "Verdict"]
