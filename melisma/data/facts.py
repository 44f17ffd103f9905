"""Facts about a clip: attributes of its notes, and style and composer from its source.

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
    """Collect the facts about an excerpt of a performance.

    Args:
        performance: The performed notes.
        start_seconds: Start of the excerpt.
        seconds: Length of the excerpt.
        labels: Frame labels of the same excerpt.
        source: Piece that the notes come from; None if style and composer must not be taken
            from it.
        style: One of `STYLES` for arranged music; None: derived from the source.

    Returns:
        The facts; what is unknown is None or empty.
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
