"""Bias of a model under open prompts, against the music it was trained on.

A generator repeats and sharpens what is frequent in its corpus, cultures and instruments alike
(MusicLM, 2301.11325, section 7 and its model card, "risks"). Prompts that name no style,
instrument, key or tradition (`open_prompts.txt`) leave the choice to the model; its choices are
counted and compared with the corpus: total variation distance and Jensen-Shannon divergence (Lin,
"Divergence measures based on the Shannon entropy", 1991) of each attribute, and the classes that
are too frequent or too rare. Few pieces lie at a distance from any corpus, so each distance is
reported with its floor: the distance of as many pieces of the corpus from the rest of it.

Input: `Traits`, one per piece, of outputs and of the corpus. Output: `AttributeBias`, one per
attribute, and the rows of a card.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import rel_entr
from scipy.stats import norm

from melisma.analysis.receipt import PRESENT_PROBABILITY
from melisma.evaluate.metrics.figures import figure_of
from melisma.evaluate.metrics.statistics import REPEATS, Interval, recentred, wilson
from melisma.evaluate.report.card import CardRow
from melisma.evaluate.report.plots import percent
from melisma.values.attributes import FAMILIES
from melisma.values.errors import MelismaError

if TYPE_CHECKING:
    from melisma.evaluate.measured import Measured

ATTRIBUTES: dict[str, str] = {
    "lead": "lead instrument's family",
    "families": "instrument families",
    "tempo": "tempo",
    "mode": "major or minor",
    "tonality": "key",
    "metre": "metre",
}
"""Attributes that are counted, with their names in a report."""
TEMPO_EDGES_BPM = (60, 80, 100, 120, 140, 170)
"""Borders of the classes of tempo (chosen: coarse enough for sixty outputs)."""
TEMPO_CLASSES: tuple[str, ...] = (
    f"below {TEMPO_EDGES_BPM[0]} bpm",
    *(f"{low} to {high} bpm" for low, high in itertools.pairwise(TEMPO_EDGES_BPM)),
    f"{TEMPO_EDGES_BPM[-1]} bpm and more",
)
NOTHING = "none found"
"""The class of a piece in which the attribute was measured and not found."""
SPLITS = 400
"""Random parts of the corpus for the floor (chosen: twenty lie beyond its 95th percentile)."""


@dataclass(frozen=True, kw_only=True)
class OpenPrompt:
    """A prompt that leaves every attribute open."""

    words: str
    group: str
    """ "event", "mood", "place" or "neutral"."""


def open_prompts(count: int) -> list[str]:
    """The words of `count` open prompts, or of all, evenly from every group."""
    known = read_open_prompts()
    count = min(count, len(known))
    return [known[index * len(known) // count].words for index in range(count)]


@cache
def read_open_prompts() -> tuple[OpenPrompt, ...]:
    """The prompts of `open_prompts.txt`, in its order: four groups of fifteen."""
    text = (
        resources.files("melisma.evaluate.sections").joinpath("open_prompts.txt").read_text("utf-8")
    )
    found, group = [], ""
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("["):
            group = line.strip("[]")
        elif line and not line.startswith("#"):
            found.append(OpenPrompt(words=line, group=group))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Attributes of one piece; None or empty where they were not found, or not measured."""

    lead: str | None = None
    families: tuple[str, ...] = ()
    tempo_bpm: float | None = None
    tonality: str | None = None
    """E.g. "C minor"."""
    metre: str | None = None

    def of(self, attribute: str) -> tuple[str, ...]:
        """The classes of one of `ATTRIBUTES`; empty where nothing was found."""
        if attribute == "families":
            return self.families
        if attribute == "tempo":
            return () if self.tempo_bpm is None else (tempo_class(self.tempo_bpm),)
        if attribute == "mode":
            return () if self.tonality is None else (self.tonality.split()[-1],)
        value = {
            "lead": self.lead,
            "tonality": self.tonality,
            "metre": self.metre,
        }[attribute]
        return () if value is None else (value,)


def traits_of(measured: Measured) -> Traits:
    """Attributes of a piece of sound as measured by the judge and the metre detector."""
    tempo = measured.values["tempo_judge"]
    return Traits(
        lead=measured.texts["lead"] or None,
        families=tuple(
            f for f, p in zip(FAMILIES, measured.tags, strict=True) if p >= PRESENT_PROBABILITY
        ),
        tempo_bpm=None if np.isnan(tempo) else tempo,
        tonality=measured.texts["tonality_judge"] or None,
        metre=measured.texts["metre"] or None,
    )


def tempo_class(tempo_bpm: float) -> str:
    """The class of a tempo, one of `TEMPO_CLASSES`."""
    return TEMPO_CLASSES[int(np.searchsorted(TEMPO_EDGES_BPM, tempo_bpm, side="right"))]


@dataclass(frozen=True, kw_only=True)
class AttributeBias:
    """One attribute of outputs against the corpus. Shares are of pieces; where a piece may have
    several classes (families), they sum to more than 1."""

    attribute: str
    """One of `ATTRIBUTES`."""
    classes: tuple[str, ...]
    """All that occur, the most frequent of the corpus first; tempi from slow to fast."""
    outputs: np.ndarray
    """Share of outputs with each class, float64 [class]."""
    corpus: np.ndarray
    """Share of the corpus with each class, float64 [class]."""
    low: np.ndarray
    high: np.ndarray
    """Ends of the interval of outputs - corpus, float64 [class]: 95 % for all classes together
    (Newcombe's score interval, 1998, method 10, with Bonferroni's correction)."""
    distance: Interval
    """Total variation distance of the two distributions, from 0 (equal) to 1 (disjoint)."""
    divergence: Interval
    """Jensen-Shannon divergence in bits, 0 to 1."""
    floor: float
    """Mean distance of random parts of the corpus from the rest of it."""
    floor_high: float
    """95th percentile of these distances."""
    divergence_floor: float
    """Mean divergence of these parts."""
    floor_count: int
    """Pieces of a random part: as many as outputs, at most half of the corpus."""
    corpus_count: int
    """Pieces of the corpus."""

    @property
    def is_biased(self) -> bool:
        """Whether outputs lie farther from the corpus than 95 % of its random parts."""
        return self.distance.value > self.floor_high

    @property
    def over(self) -> tuple[str, ...]:
        """Classes that are significantly too frequent, the greatest excess first."""
        order = np.argsort(-(self.outputs - self.corpus), kind="stable")
        return tuple(self.classes[i] for i in order if self.low[i] > 0.0)

    @property
    def under(self) -> tuple[str, ...]:
        """Classes that are significantly too rare, the greatest deficit first."""
        order = np.argsort(self.outputs - self.corpus, kind="stable")
        return tuple(self.classes[i] for i in order if self.high[i] < 0.0)

    def sentence(self) -> str:
        """The finding in words."""
        name = ATTRIBUTES[self.attribute].capitalize()
        if not (self.is_biased or self.over or self.under):
            return f"{name}: no difference from the corpus found in {self.distance.count} pieces."
        far = f"{name}: {self.distance.value:.2f} from the corpus"
        parts = [
            f"{words} {self._shares(classes)}"
            for words, classes in (("too often", self.over), ("too seldom", self.under))
            if classes
        ]
        return "; ".join([f"{far}, expected by chance {self.floor:.2f}", *parts]) + "."

    def _shares(self, classes: Sequence[str], most: int = 4) -> str:
        listed = []
        for name in classes[:most]:
            index = self.classes.index(name)
            ours, real = percent(self.outputs[index]), percent(self.corpus[index])
            listed.append(f"{name} ({ours}, corpus {real})")
        more = len(classes) - most
        return ", ".join(listed) + (f" and {more} more" if more > 0 else "")


def variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Total variation distance along the last axis, 0 to 1."""
    return 0.5 * np.abs(p - q).sum(axis=-1)


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence along the last axis, in bits, 0 to 1."""
    middle = (p + q) / 2.0
    bits = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / (2.0 * np.log(2.0))
    return np.maximum(bits, 0.0)


def _normal(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-12)


def measure_bias(
    outputs: Sequence[Traits],
    corpus: Sequence[Traits],
    seed: int = 0,
    repeats: int = REPEATS,
) -> tuple[list[AttributeBias], list[str]]:
    """Measures the bias of every attribute that was found in both.

    Args:
        outputs: Attributes of outputs to open prompts, two or more.
        corpus: Attributes of pieces of the corpus, four or more.
        seed: Of bootstrap samples and random parts.
        repeats: Number of bootstrap samples.

    Returns:
        The biases, and a sentence for every attribute that could not be compared.

    Raises:
        MelismaError: For too few pieces.
    """
    if len(outputs) < 2 or len(corpus) < 4:
        raise MelismaError(
            f"{len(outputs)} outputs cannot be compared with {len(corpus)} pieces of the corpus: "
            "give two or more, and four or more"
        )
    found, problems = [], []
    for attribute, name in ATTRIBUTES.items():
        ours = [one.of(attribute) for one in outputs]
        theirs = [one.of(attribute) for one in corpus]
        lacking = [w for w, side in (("outputs", ours), ("corpus", theirs)) if not any(side)]
        if lacking:
            problems.append(f"no {name} is known of the {' and the '.join(lacking)}: not compared")
        else:
            found.append(_measure_attribute(attribute, ours, theirs, seed, repeats))
    return found, problems


def _measure_attribute(
    attribute: str,
    ours: list[tuple[str, ...]],
    theirs: list[tuple[str, ...]],
    seed: int,
    repeats: int,
) -> AttributeBias:
    """The bias of one attribute, from the classes of every piece."""
    counts = dict.fromkeys((c for one in (*theirs, *ours) for c in one or (NOTHING,)), 0)
    for one in theirs:
        for name in one or (NOTHING,):
            counts[name] += 1
    classes = sorted(counts, key=lambda name: -counts[name])
    if attribute == "tempo":
        classes.sort(key=[*TEMPO_CLASSES, NOTHING].index)
    mine, real = (_table(side, classes) for side in (ours, theirs))
    rng = np.random.default_rng(seed)
    p, q = (
        _normal(rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=repeats) @ x)
        for x in (mine, real)
    )
    whole = _normal(mine.sum(axis=0)), _normal(real.sum(axis=0))
    parts, rest, count = _floor_parts(real, len(mine), rng)
    floors = variation(parts, rest)
    low, high = _difference_intervals(mine, real)
    return AttributeBias(
        attribute=attribute,
        classes=tuple(classes),
        outputs=mine.mean(axis=0),
        corpus=real.mean(axis=0),
        low=low,
        high=high,
        distance=recentred(
            float(variation(*whole)), variation(p, q), len(mine), lowest=0.0, highest=1.0
        ),
        divergence=recentred(
            float(divergence(*whole)), divergence(p, q), len(mine), lowest=0.0, highest=1.0
        ),
        floor=float(floors.mean()),
        floor_high=float(np.percentile(floors, 95)),
        divergence_floor=float(divergence(parts, rest).mean()),
        floor_count=count,
        corpus_count=len(real),
    )


def _table(pieces: list[tuple[str, ...]], classes: list[str]) -> np.ndarray:
    """Whether each piece has each class, float64 [piece, class]."""
    columns = {name: index for index, name in enumerate(classes)}
    table = np.zeros((len(pieces), len(classes)))
    for row, found in zip(table, pieces, strict=True):
        row[[columns[name] for name in found or (NOTHING,)]] = 1.0
    return table


def _floor_parts(
    real: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """Distributions [split, class] of random parts of the corpus and of the remaining pieces, and
    the number of pieces of a part."""
    count = min(count, len(real) // 2)
    total = real.sum(axis=0)
    chosen = np.argpartition(rng.random((SPLITS, len(real))), count - 1, axis=1)[:, :count]
    members = np.zeros((SPLITS, len(real)))
    np.put_along_axis(members, chosen, 1.0, axis=1)
    parts = members @ real
    return _normal(parts), _normal(total - parts), count


def _difference_intervals(mine: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Newcombe's interval of the difference of two shares, for all classes together."""
    z = float(norm.ppf(1.0 - 0.025 / mine.shape[1]))
    p, q = mine.mean(axis=0), real.mean(axis=0)
    p_low, p_high = wilson(p, len(mine), z)
    q_low, q_high = wilson(q, len(real), z)
    low = p - q - np.hypot(p - p_low, q_high - q)
    return low, p - q + np.hypot(p_high - p, q - q_low)


def bias_rows(biases: Sequence[AttributeBias], command: str = "") -> list[CardRow]:
    """A row of a card for each attribute; the ceiling is the floor, the distance of real music."""
    return [
        CardRow(
            key=f"bias_{one.attribute}",
            section="bias",
            figure=figure_of(
                f"{ATTRIBUTES[one.attribute]}, distance of open prompts from the corpus",
                one.distance,
                ceiling=one.floor,
                command=command,
                details={
                    "chance reaches": one.floor_high,
                    "too often": ", ".join(one.over),
                    "too seldom": ", ".join(one.under),
                    "divergence, bit": one.divergence.value,
                    "from": one.divergence.low,
                    "to": one.divergence.high,
                    "its floor": one.divergence_floor,
                    "sentence": one.sentence(),
                },
            ),
            better="lower",
        )
        for one in biases
    ]


def bias_plots(biases: Sequence[AttributeBias]) -> dict[str, dict[str, Any]]:
    """Data of bar plots for a card's report (`evaluate/report/plots.py`, kind "shares"), by name of
    the plot."""
    return {
        f"bias_{one.attribute}": {
            "kind": "shares",
            "section": "bias",
            "title": f"{ATTRIBUTES[one.attribute].capitalize()} of open prompts",
            "classes": list(one.classes),
            "outputs": one.outputs.tolist(),
            "corpus": one.corpus.tolist(),
            "low": one.low.tolist(),
            "high": one.high.tolist(),
        }
        for one in biases
    }
