"""The card of a set of sounds: outputs of a model, or any folder.

Enters: pieces of sound with their prompts, the judge, the embeddings, a reference set. Leaves: a
`Card`. Every section is a function from what was measured to rows; what a section needs and does
not have is told in a note, and the rest goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from melisma.analysis.audio.tempo import meets_tempo
from melisma.analysis.receipt import HEARD_PROBABILITY
from melisma.analysis.similarity.clip_index import Resemblance
from melisma.evaluate.measured import Measured
from melisma.evaluate.metrics.adherence import RequestedAttributes, contrast, tempo_chance
from melisma.evaluate.metrics.divergence import chance_divergence, class_divergence
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.frechet import (
    Pieces,
    frechet_interval,
    half_floor,
    matched_distance,
    matched_infinity,
    piece_distances,
)
from melisma.evaluate.metrics.statistics import Interval, constant_chance, mean_interval
from melisma.evaluate.metrics.win_rates import compare_systems, comparison_figure
from melisma.evaluate.models.judge import Judge
from melisma.evaluate.references.audio import Reference
from melisma.evaluate.report.card import CardRow
from melisma.evaluate.report.results import Results
from melisma.evaluate.sections.bias import bias_plots, bias_rows, measure_bias, traits_of
from melisma.values import Waveform
from melisma.values.attributes import FAMILIES

FAULT_NAMES: Mapping[str, tuple[str, str]] = {
    "faults": ("kinds of fault beyond what real renders have", ""),
    "clicks": ("clicks", "a piece"),
    "dropouts": ("dropouts", "a piece"),
    "dead_silence_seconds": ("dead silence", "s"),
    "clipped_share": ("clipped samples", ""),
    "hiss_db": ("hiss", "dB"),
    "warble": ("warble", ""),
    "beat_variation": ("variation of the beat", ""),
    "stuck_share": ("share in a stuck loop", ""),
    "level_change_db": ("change of level from one .4 s to the next", "dB"),
}
"""Value of `Measured` -> its name in the table, and its unit."""
FAULT_PLOTS = ("hiss_db", "warble", "beat_variation")
"""Faults of degree, whose place among real music says more than their mean."""
PLOT_CLASSES = 16
"""Classes of a histogram (chosen: what one sees on a telephone)."""
FEWEST_FOR_DISTANCE = 8
"""Fewer pieces have no Fréchet distance worth telling (chosen; see `frechet_infinity`)."""
FEWEST_FOR_GOALS = 100
"""With fewer pieces F is so large that its multiples are no goal (chosen; F of the music tower is
.28 at 50 pieces, .11 at 200)."""
DEPTH_OF_GOALS = (5.0, 2.0)
"""Goals of a Fréchet distance: so many times F, above C for what the codec decoded."""


@dataclass(frozen=True, kw_only=True)
class JudgedSound:
    """One piece that is judged."""

    name: str
    prompt: str
    """Empty where it is not known."""
    wish: RequestedAttributes | None
    """What the prompt asks for; None where nothing is known of it."""
    twin: int | None
    """The piece of the reference set that has this prompt; None where there is none."""
    measured: Measured


def add_quality(
    found: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    seed: int,
    *,
    decoded: bool,
) -> None:
    """Fréchet distances, extrapolated ones, and how far each piece lies from real music.

    Beside them F, the distance of two halves of real music, and C, that of the codec's round trips.
    Outputs that were `decoded` by the codec are held against C, others against F.
    """
    if reference is None:
        found.notes.append("No Fréchet distance: there is no reference set to compare with.")
        return
    if len(pieces) < FEWEST_FOR_DISTANCE:
        found.notes.append(
            f"No Fréchet distance: {len(pieces)} pieces are too few, {FEWEST_FOR_DISTANCE} or more "
            "are needed, and some hundreds to trust it."
        )
        return
    for name in reference.raw[0].windows:
        outputs = Pieces.of([one.measured.windows[name] for one in pieces])
        raw = Pieces.of([one.windows[name] for one in reference.raw], reference.groups)
        coded = Pieces.of([one.windows[name] for one in reference.coded], reference.groups)
        count = min(len(outputs), len(raw) // 2)
        ours = matched_distance(outputs, raw, count=count, seed=seed)
        floor = half_floor(raw, count=count, seed=seed).value
        codec = matched_distance(coded, raw, count=count, seed=seed, derived=True).value
        spread = frechet_interval(outputs, raw, seed)
        interval = Interval(
            value=ours.value,
            low=max(ours.value + spread.low - spread.value, 0.0),
            high=ours.value + spread.high - spread.value,
            count=count,
        )
        best, sign = (codec, "C + ") if decoded else (0.0, "")
        goals = {}
        if count >= FEWEST_FOR_GOALS:
            goals = {f"{sign}{n:g}F": best + n * floor for n in DEPTH_OF_GOALS}
        details: dict[str, float | str] = {
            "F": floor,
            "C": codec,
            f"in F{' above C' if decoded else ''}": (ours.value - best) / floor,
        }
        figure = figure_of(
            f"Fréchet distance, {name}",
            interval,
            ceiling=codec if decoded else floor,
            details=details,
        )
        found.rows.append(
            CardRow(
                key=f"fad_{name}", section="quality", figure=figure, better="lower", goals=goals
            )
        )
        _add_infinity(found, name, outputs, raw, coded if decoded else raw, seed)


def _add_infinity(
    found: Results, name: str, outputs: Pieces, raw: Pieces, best: Pieces, seed: int
) -> None:
    """The extrapolated distance; `best` are the real pieces that outputs are held against."""
    line = matched_infinity(outputs, raw, seed=seed)
    floor = matched_infinity(raw, raw, seed=seed, derived=True)
    perfect = matched_infinity(best, raw, seed=seed, derived=True)
    figure = Figure(
        what=f"Fréchet distance, {name}, of infinitely many pieces",
        value=line.value,
        ceiling=perfect.value,
        count=len(outputs),
        details={"F": floor.value, "r2": line.r2},
    )
    found.rows.append(
        CardRow(key=f"fad_infinity_{name}", section="quality", figure=figure, better="lower")
    )
    found.plots[f"fad_infinity_{name}"] = {
        "kind": "frechet",
        "title": f"Fréchet distance over the number of pieces, {name}",
        "sizes": line.sizes.tolist(),
        "distances": line.distances.tolist(),
        "value": line.value,
        "slope": line.slope,
    }
    each = piece_distances(outputs, raw)
    for values, number in zip(found.values, each.values, strict=True):
        values[f"distance_{name}"] = float(number)
    for place in each.outliers:
        found.told[place][f"outlier, {name}"] = f"{each.values[place]:.3g}"


def marks(wish: RequestedAttributes, heard: Measured) -> dict[str, float]:
    """Whether a piece does what was asked, 1 or 0 by key; only what was asked for."""
    out: dict[str, float] = {}
    if wish.lead is not None:
        out["lead"] = float(heard.told["lead"] == wish.lead)
    if wish.families:
        named = [FAMILIES.index(family) for family in wish.families]
        out["families"] = float(np.mean(heard.tags[named] >= HEARD_PROBABILITY))
    if wish.tempo_bpm is not None:
        for key in ("tempo_judge", "tempo_signal"):
            # Where no tempo was found the number is nan, which meets nothing.
            out[key] = float(meets_tempo(heard.values[key], wish.tempo_bpm))
    if wish.tonality is not None:
        for key in ("tonality_judge", "tonality_signal"):
            out[key] = float(heard.told[key] == wish.tonality)
    return out


MARKS: Mapping[str, str] = {
    "lead": "lead instrument's family heard, where one is named",
    "families": "named families heard",
    "tempo_judge": "tempo within 5 %, judge",
    "tempo_signal": "tempo within 5 %, signal",
    "tonality_judge": "tonality, judge",
    "tonality_signal": "tonality, signal",
}
"""Keys of `marks` and their names in the table."""


def add_adherence(
    found: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    true: Sequence[Measured],
) -> None:
    """Whether pieces do what their words say, beside the same judges on the `true` pieces of the
    reference set."""
    asked = [one.wish for one in pieces]
    if not any(one is not None for one in asked):
        found.notes.append("Adherence was not measured: nothing is known of what was asked for.")
        return
    wishes = [one for one in asked if one is not None]
    tempo = tempo_chance(wishes)
    tonality = constant_chance([one.tonality for one in wishes if one.tonality is not None])
    chances = {
        "lead": constant_chance([one.lead for one in wishes if one.lead is not None]),
        "families": _families_chance(pieces),
        "tempo_judge": tempo,
        "tempo_signal": tempo,
        "tonality_judge": tonality,
        "tonality_signal": tonality,
    }
    told = [] if reference is None else reference.requested()
    truth = [marks(wish, one) for wish, one in zip(told, true, strict=True)]
    ours = [{} if one.wish is None else marks(one.wish, one.measured) for one in pieces]
    for key, what in MARKS.items():
        numbers = np.array([row.get(key, math.nan) for row in ours])
        known = [row[key] for row in truth if key in row]
        ceiling = float(np.mean(known)) if known else None
        found.add(
            key, "adherence", what, numbers, better="higher", chance=chances[key], ceiling=ceiling
        )


def _families_chance(pieces: Sequence[JudgedSound]) -> float:
    """Share of named families that are heard in pieces for other words, on average."""
    wishes = [one.wish.families for one in pieces if one.wish is not None and one.wish.families]
    if not wishes:
        return 0.0
    usual = np.mean([one.measured.tags >= HEARD_PROBABILITY for one in pieces], axis=0)
    return float(np.mean([usual[[FAMILIES.index(f) for f in named]].mean() for named in wishes]))


def add_similarity(
    found: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    true: Sequence[Measured],
    judge: Judge,
) -> None:
    """Cycle consistency by an embedding that neither selected nor trained the outputs:
    (outputs - shuffled) / (true - shuffled), the denominator taken as exact."""
    told = [i for i, one in enumerate(pieces) if one.prompt]
    if len({pieces[i].prompt for i in told}) < 2:
        found.notes.append("Cycle consistency was not measured: it needs two prompts or more.")
        return
    words = judge.read_words([pieces[i].prompt for i in told])
    own = contrast(words, np.stack([pieces[i].measured.vector for i in told]))
    numbers = np.full(len(pieces), math.nan)
    numbers[told] = own
    prompts = [] if reference is None else list(reference.prompts)
    worded = [i for i, words in enumerate(prompts) if words]
    if len(worded) < 2:
        found.add(
            "similarity", "adherence", "similarity to the own words above the others'", numbers,
            better="higher", chance=0.0,
        )  # fmt: skip
        return
    vectors = np.stack([true[i].vector for i in worded])
    truth = contrast(judge.read_words([prompts[i] for i in worded]), vectors)
    numbers = numbers / truth.mean()
    found.add(
        "similarity",
        "adherence",
        "cycle consistency, (outputs - shuffled) / (true - shuffled)",
        numbers,
        better="higher",
        chance=0.0,
        ceiling=1.0,
    )


def add_divergence(
    found: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    true: Sequence[Measured],
) -> None:
    """KLD between what the tagger hears in outputs and in the true pieces for the same words."""
    twins = [(i, one.twin) for i, one in enumerate(pieces) if one.twin is not None]
    if reference is None or len(twins) < 2:
        found.notes.append(
            "KLD was not measured: it compares outputs with the true pieces for the same words, "
            "and these prompts are not of the reference set."
        )
        return
    real = np.stack([reference.raw[twin].tags for _, twin in twins])
    made = np.stack([pieces[i].measured.tags for i, _ in twins])
    best = np.stack([true[twin].tags for _, twin in twins])
    numbers = np.full(len(pieces), math.nan)
    numbers[[i for i, _ in twins]] = class_divergence(real, made)
    found.add(
        "kld",
        "adherence",
        "KLD of families of instruments, nats",
        numbers,
        better="lower",
        chance=float(chance_divergence(real, made).mean()),
        ceiling=float(class_divergence(real, best).mean()),
    )


def add_faults(found: Results, pieces: Sequence[JudgedSound], true: Sequence[Measured]) -> None:
    """Artefacts, beside those of the `true` pieces."""
    for key, (what, unit) in FAULT_NAMES.items():
        numbers = np.array([one.measured.values[key] for one in pieces])
        known = np.array([one.values[key] for one in true])
        ceiling = float(np.nanmean(known)) if np.isfinite(known).any() else None
        found.add(key, "faults", what, numbers, better="lower", ceiling=ceiling, unit=unit)
        if key in FAULT_PLOTS and np.isfinite(numbers).any():
            found.plots[key] = _fault_histogram(numbers, known, what, unit)
    free = np.array([float(not one.measured.values["faults"]) for one in pieces])
    ceiling = float(np.mean([not one.values["faults"] for one in true])) if true else None
    found.add(
        "faultless", "faults", "pieces without any fault", free, better="higher", ceiling=ceiling
    )


def _fault_histogram(
    numbers: np.ndarray, real: np.ndarray, what: str, unit: str
) -> dict[str, object]:
    """A card's plot of how outputs and real pieces are spread; the outermost classes hold what is
    beyond the middle 98 % of both."""
    both = np.concatenate([numbers[np.isfinite(numbers)], real[np.isfinite(real)]])
    low, high = (float(border) for border in np.quantile(both, (0.01, 0.99)))
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, PLOT_CLASSES + 1)

    def counted(values: np.ndarray) -> list[int]:
        inside = values[np.isfinite(values)].clip(low, high)
        return np.histogram(inside, edges)[0].tolist()

    return {
        "kind": "histogram",
        "section": "faults",
        "title": what,
        "edges": edges.tolist(),
        "counts": counted(numbers),
        "reference": counted(real) if np.isfinite(real).any() else None,
        "unit": unit,
    }


def add_wins(
    found: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    judge: Judge,
    label: str,
    seed: int,
) -> None:
    """Outputs against the true pieces for the same words, by the judge's ear for the words."""
    twins = [(i, one.twin) for i, one in enumerate(pieces) if one.twin is not None]
    if reference is None or len(twins) < 2:
        found.notes.append("Wins were not counted: these prompts are not of the reference set.")
        return
    words = judge.read_words([pieces[i].prompt for i, _ in twins])

    def near(vectors: list[np.ndarray]) -> np.ndarray:
        return (words * np.stack(vectors)).sum(axis=1)

    systems = {
        label: near([pieces[i].measured.vector for i, _ in twins]),
        "true, coded": near([reference.coded[twin].vector for _, twin in twins]),
        "true": near([reference.raw[twin].vector for _, twin in twins]),
    }
    for (i, _), score in zip(twins, systems[label], strict=True):
        found.values[i]["words_cosine"] = float(score)
    roles = dict(zip(systems, ("outputs", "coded", "true"), strict=True))
    tournament = compare_systems(systems, seed=seed)
    for name, total in tournament.totals.items():
        figure = figure_of(f"wins of {name}, of {total.count} comparisons", total)
        better = "higher" if name == label else ""
        found.rows.append(
            CardRow(key=f"wins_of_{roles[name]}", section="wins", figure=figure, better=better)
        )
    for pair in tournament.comparisons:
        found.rows.append(
            CardRow(
                key=f"wins_{roles[pair.first]}_{roles[pair.second]}",
                section="wins",
                figure=comparison_figure(pair, "the judge"),
                better="higher" if pair.first == label else "",
            )
        )


def add_originality(
    found: Results,
    near: Sequence[Resemblance | None],
    index: Callable[[Waveform], Resemblance] | None,
) -> None:
    """How near every piece comes to a training clip: by equal tokens and by the joint vector."""
    if index is None:
        found.notes.append(
            "Originality was not measured: the model has no index of its training clips "
            "(`melisma train index` makes one)."
        )
        return
    shared = [math.nan if one is None else one.run_seconds for one in near]
    agreement = [math.nan if one is None else one.equal_share for one in near]
    cosine = [math.nan if one is None else one.similarity for one in near]
    flagged = [math.nan if one is None else float(one.too_similar) for one in near]
    rows = {
        "shared_seconds": ("longest run of tokens shared with a training clip", shared, "s"),
        "shared_frames": ("share of 5 s that is as in a training clip", agreement, ""),
        "nearest_cosine": ("cosine to the nearest training clip", cosine, ""),
        "too_near": ("pieces nearer than independent music gets", flagged, ""),
    }
    for key, (what, numbers, unit) in rows.items():
        found.add(key, "originality", what, np.array(numbers), better="lower", unit=unit)
    for told, one in zip(found.told, near, strict=True):
        if one is not None:
            told["nearest training clip"] = one.similar_clip
        if one is not None and one.run is not None:
            told["longest shared run"] = f"{one.run_seconds:.2f} s of {one.run.clip}"


CODEC_ROWS: Mapping[str, tuple[str, str, str]] = {
    "codec_visqol": ("ViSQOL of the codec alone", "higher", ""),
    "codec_onsets": ("onsets kept by the codec, F1 over that of the original", "higher", ""),
    "codec_log_mel": ("log-mel distance of the codec alone", "lower", ""),
    "codec_si_sdr": ("SI-SDR of the codec alone", "higher", "dB"),
}
"""Values that the coded pieces of a reference set may have: name, what is better, unit."""


def add_codec(found: Results, reference: Reference | None) -> None:
    """What the codec alone loses: measured when the reference set was made, the same for all."""
    if reference is None:
        return
    for key, (what, better, unit) in CODEC_ROWS.items():
        numbers = np.array([one.values.get(key, math.nan) for one in reference.coded])
        known = numbers[np.isfinite(numbers)]
        if len(known):
            figure = figure_of(
                f"{what}, {reference.levels} levels", mean_interval(known), unit=unit
            )
            found.rows.append(CardRow(key=key, section="codec", figure=figure, better=better))


def add_bias(
    found: Results, opened: Sequence[Measured], true: Sequence[Measured], seed: int
) -> None:
    """What prompts bring that leave everything open, beside the `true` pieces of the corpus, both
    heard by the same judge, so that its mistakes cancel."""
    if not opened or not true:
        missing = "there is no reference set" if opened else "no open prompts were drawn"
        found.notes.append(f"Bias was not measured: {missing}.")
        return
    biases, told = measure_bias(
        [traits_of(one) for one in opened], [traits_of(one) for one in true], seed
    )
    found.rows += bias_rows(biases)
    found.notes += told
    found.plots |= bias_plots(biases)
