"""The facts of a clip: what its notes say, and what its source says about style and composer.

Captions are written from them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from melisma.analysis.labels.facts import performance_facts
from melisma.analysis.labels.frame_labels import FrameLabels
from melisma.data.sources.repertoire import source_composer, source_style, source_tradition
from melisma.symbolic.performance import Performance
from melisma.values.attributes import Facts

if TYPE_CHECKING:
    from melisma.data.sources.pieces import Source


def clip_facts(
    performance: Performance,
    start_seconds: float,
    seconds: float,
    labels: FrameLabels,
    source: Source | None,
    style: str | None,
) -> Facts:
    """What is true of `seconds` seconds of a performance from `start_seconds` on.

    Args:
        performance: What is played.
        start_seconds: Where the stretch begins.
        seconds: How long it is.
        labels: Those of the same stretch.
        source: Where the notes come from.
        style: One of `STYLES` for arranged music; otherwise it follows from the source.
    """
    facts = performance_facts(performance, start_seconds, seconds, labels)
    if source is None:
        return replace(facts, style=style)
    if style is None:
        style = source_style(source, facts.metre)
    return replace(
        facts,
        style=style,
        composer=source_composer(source),
        tradition=source_tradition(source, style, facts.families),
        title=source.title,
    )
