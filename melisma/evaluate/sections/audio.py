"""Sections of the card of a set of sounds: outputs of a model, or any folder.

Input: measured pieces with their prompts, the judge and a reference set. Output: rows of a `Card`.
Every section is a function from measurements to rows; a section that lacks what it needs adds a
note instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from melisma.analysis.audio.tempo import meets_tempo
from melisma.analysis.receipt import PRESENT_PROBABILITY
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
"""Key of `Measured.values` -> its name in the table, and its unit."""
FAULT_PLOTS = ("hiss_db", "warble", "beat_variation")
"""Continuous faults, for which a histogram beside real music says more than the mean."""
PLOT_CLASSES = 16
"""Bins of a histogram (chosen: legible on a phone)."""
FEWEST_FOR_DISTANCE = 8
"""With fewer pieces no Fréchet distance is measured (chosen; see `frechet_infinity`)."""
FEWEST_FOR_GOALS = 100
"""With fewer pieces F is so large that its multiples are no goal (chosen; F of the music tower is
.28 at 50 pieces, .11 at 200)."""
DEPTH_OF_GOALS = (5.0, 2.0)
"""Goals of a Fréchet distance as multiples of F, added to C for sound that the codec decoded."""


@dataclass(frozen=True, kw_only=True)
class JudgedSound:
    """One piece that is judged."""

    name: str
    prompt: str
    """Empty where it is not known."""
    requested: RequestedAttributes | None
    """What the prompt requests; None where it is not known."""
    reference_index: int | None
    """Index of the piece of the reference set with the same prompt; None where there is none."""
    measured: Measured


def add_quality(
    results: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    seed: int,
    *,
    decoded: bool,
) -> None:
    """Adds Fréchet distances, extrapolated ones, and the distance of each piece from real music.

    The details hold F, the distance of two halves of real music, and C, that of the codec's round
    trips. Outputs that were `decoded` by the codec are compared with C, others with F.
    """
    if reference is None:
        results.notes.append("No Fréchet distance: there is no reference set to compare with.")
        return
    if len(pieces) < FEWEST_FOR_DISTANCE:
        results.notes.append(
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
        results.rows.append(
            CardRow(
                key=f"fad_{name}", section="quality", figure=figure, better="lower", goals=goals
            )
        )
        _add_infinity(results, name, outputs, raw, coded if decoded else raw, seed)


def _add_infinity(
    results: Results, name: str, outputs: Pieces, raw: Pieces, best: Pieces, seed: int
) -> None:
    """Adds the extrapolated distance; `best` are the real pieces that give the ceiling."""
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
    results.rows.append(
        CardRow(key=f"fad_infinity_{name}", section="quality", figure=figure, better="lower")
    )
    results.plots[f"fad_infinity_{name}"] = {
        "kind": "frechet",
        "title": f"Fréchet distance over the number of pieces, {name}",
        "sizes": line.sizes.tolist(),
        "distances": line.distances.tolist(),
        "value": line.value,
        "slope": line.slope,
    }
    each = piece_distances(outputs, raw)
    for values, number in zip(results.values, each.values, strict=True):
        values[f"distance_{name}"] = float(number)
    for index in each.outliers:
        results.texts[index][f"outlier, {name}"] = f"{each.values[index]:.3g}"


def marks(requested: RequestedAttributes, measured: Measured) -> dict[str, float]:
    """Whether a piece meets its requests, 1 or 0 by key of `MARKS`; only what was requested. For
    families it is the share that is detected."""
    out: dict[str, float] = {}
    if requested.lead is not None:
        out["lead"] = float(measured.texts["lead"] == requested.lead)
    if requested.families:
        named = [FAMILIES.index(family) for family in requested.families]
        out["families"] = float(np.mean(measured.tags[named] >= PRESENT_PROBABILITY))
    if requested.tempo_bpm is not None:
        for key in ("tempo_judge", "tempo_signal"):
            # Where no tempo was found the value is nan, which meets no request.
            out[key] = float(meets_tempo(measured.values[key], requested.tempo_bpm))
    if requested.tonality is not None:
        for key in ("tonality_judge", "tonality_signal"):
            out[key] = float(measured.texts[key] == requested.tonality)
    return out


MARKS: Mapping[str, str] = {
    "lead": "lead instrument's family recognised, where one is named",
    "families": "named families detected",
    "tempo_judge": "tempo within 5 %, judge",
    "tempo_signal": "tempo within 5 %, signal",
    "tonality_judge": "key, judge",
    "tonality_signal": "key, signal",
}
"""Keys of `marks` and their names in the table."""


def add_adherence(
    results: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    real_pieces: Sequence[Measured],
) -> None:
    """Adds adherence of pieces to their prompts; the ceiling is that of the `real_pieces` of the
    reference set."""
    requests = [one.requested for one in pieces if one.requested is not None]
    if not requests:
        results.notes.append("Adherence was not measured: it is not known what was requested.")
        return
    tempo = tempo_chance(requests)
    tonality = constant_chance([one.tonality for one in requests if one.tonality is not None])
    chances = {
        "lead": constant_chance([one.lead for one in requests if one.lead is not None]),
        "families": _families_chance(pieces),
        "tempo_judge": tempo,
        "tempo_signal": tempo,
        "tonality_judge": tonality,
        "tonality_signal": tonality,
    }
    stated = [] if reference is None else reference.requested()
    truth = [marks(request, one) for request, one in zip(stated, real_pieces, strict=True)]
    ours = [{} if one.requested is None else marks(one.requested, one.measured) for one in pieces]
    for key, what in MARKS.items():
        numbers = np.array([row.get(key, math.nan) for row in ours])
        known = [row[key] for row in truth if key in row]
        ceiling = float(np.mean(known)) if known else None
        results.add(
            key, "adherence", what, numbers, better="higher", chance=chances[key], ceiling=ceiling
        )


def _families_chance(pieces: Sequence[JudgedSound]) -> float:
    """Mean share of pieces, of any prompt, in which the named families are detected."""
    requests = [one.requested for one in pieces if one.requested is not None]
    named = [one.families for one in requests if one.families]
    if not named:
        return 0.0
    usual = np.mean([one.measured.tags >= PRESENT_PROBABILITY for one in pieces], axis=0)
    return float(np.mean([usual[[FAMILIES.index(f) for f in each]].mean() for each in named]))


def add_similarity(
    results: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    real_pieces: Sequence[Measured],
    judge: Judge,
) -> None:
    """Adds cycle consistency in an embedding that neither ranked outputs nor trained the generator:
    (outputs - shuffled) / (true - shuffled), the denominator taken as exact."""
    with_prompt = [i for i, one in enumerate(pieces) if one.prompt]
    if len({pieces[i].prompt for i in with_prompt}) < 2:
        results.notes.append("Cycle consistency was not measured: it needs two prompts or more.")
        return
    words = judge.read_words([pieces[i].prompt for i in with_prompt])
    own = contrast(words, np.stack([pieces[i].measured.vector for i in with_prompt]))
    numbers = np.full(len(pieces), math.nan)
    numbers[with_prompt] = own
    prompts = [] if reference is None else list(reference.prompts)
    captioned = [i for i, words in enumerate(prompts) if words]
    if len(captioned) < 2:
        results.add(
            "similarity", "adherence", "similarity to its own text above the other texts", numbers,
            better="higher", chance=0.0,
        )  # fmt: skip
        return
    vectors = np.stack([real_pieces[i].vector for i in captioned])
    truth = contrast(judge.read_words([prompts[i] for i in captioned]), vectors)
    numbers = numbers / truth.mean()
    results.add(
        "similarity",
        "adherence",
        "cycle consistency, (outputs - shuffled) / (true - shuffled)",
        numbers,
        better="higher",
        chance=0.0,
        ceiling=1.0,
    )


def _paired(pieces: Sequence[JudgedSound]) -> list[tuple[int, int]]:
    """Indices of pieces, and of the real pieces for the same text."""
    return [
        (i, one.reference_index) for i, one in enumerate(pieces) if one.reference_index is not None
    ]


def add_divergence(
    results: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    real_pieces: Sequence[Measured],
) -> None:
    """Adds the KLD of the tagger's classes between outputs and the real pieces for the same
    text."""
    paired = _paired(pieces)
    if reference is None or len(paired) < 2:
        results.notes.append(
            "KLD was not measured: it compares outputs with the real pieces for the same texts, "
            "and these prompts are not of the reference set."
        )
        return
    real = np.stack([reference.raw[index].tags for _, index in paired])
    made = np.stack([pieces[i].measured.tags for i, _ in paired])
    best = np.stack([real_pieces[index].tags for _, index in paired])
    numbers = np.full(len(pieces), math.nan)
    numbers[[i for i, _ in paired]] = class_divergence(real, made)
    results.add(
        "kld",
        "adherence",
        "KLD of families of instruments, nats",
        numbers,
        better="lower",
        chance=float(chance_divergence(real, made).mean()),
        ceiling=float(class_divergence(real, best).mean()),
    )


def add_faults(
    results: Results, pieces: Sequence[JudgedSound], real_pieces: Sequence[Measured]
) -> None:
    """Adds artefacts; the ceiling is those of the `real_pieces`."""
    for key, (what, unit) in FAULT_NAMES.items():
        numbers = np.array([one.measured.values[key] for one in pieces])
        known = np.array([one.values[key] for one in real_pieces])
        ceiling = float(np.nanmean(known)) if np.isfinite(known).any() else None
        results.add(key, "faults", what, numbers, better="lower", ceiling=ceiling, unit=unit)
        if key in FAULT_PLOTS and np.isfinite(numbers).any():
            results.plots[key] = _fault_histogram(numbers, known, what, unit)
    free = np.array([float(not one.measured.values["faults"]) for one in pieces])
    ceiling = (
        float(np.mean([not one.values["faults"] for one in real_pieces])) if real_pieces else None
    )
    results.add(
        "faultless", "faults", "pieces without any fault", free, better="higher", ceiling=ceiling
    )


def _fault_histogram(
    numbers: np.ndarray, real: np.ndarray, what: str, unit: str
) -> dict[str, object]:
    """Data of a histogram of outputs and real pieces; the outermost bins hold everything beyond the
    middle 98 % of both."""
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
    results: Results,
    pieces: Sequence[JudgedSound],
    reference: Reference | None,
    judge: Judge,
    label: str,
    seed: int,
) -> None:
    """Adds win rates of outputs against the real pieces for the same text, by the judge's
    similarity to that text."""
    paired = _paired(pieces)
    if reference is None or len(paired) < 2:
        results.notes.append("Wins were not counted: these prompts are not of the reference set.")
        return
    words = judge.read_words([pieces[i].prompt for i, _ in paired])

    def similarity(vectors: list[np.ndarray]) -> np.ndarray:
        return (words * np.stack(vectors)).sum(axis=1)

    systems = {
        label: similarity([pieces[i].measured.vector for i, _ in paired]),
        "true, coded": similarity([reference.coded[index].vector for _, index in paired]),
        "true": similarity([reference.raw[index].vector for _, index in paired]),
    }
    for (i, _), score in zip(paired, systems[label], strict=True):
        results.values[i]["words_cosine"] = float(score)
    roles = dict(zip(systems, ("outputs", "coded", "true"), strict=True))
    tournament = compare_systems(systems, seed=seed)
    for name, total in tournament.totals.items():
        figure = figure_of(f"wins of {name}, of {total.count} comparisons", total)
        better = "higher" if name == label else ""
        results.rows.append(
            CardRow(key=f"wins_of_{roles[name]}", section="wins", figure=figure, better=better)
        )
    for pair in tournament.comparisons:
        results.rows.append(
            CardRow(
                key=f"wins_{roles[pair.first]}_{roles[pair.second]}",
                section="wins",
                figure=comparison_figure(pair, "the judge"),
                better="higher" if pair.first == label else "",
            )
        )


def add_originality(
    results: Results,
    near: Sequence[Resemblance | None],
    index: Callable[[Waveform], Resemblance] | None,
) -> None:
    """Adds the similarity of every piece to its nearest training clip, by equal tokens and by the
    joint embedding."""
    if index is None:
        results.notes.append(
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
        "shared_frames": ("share of 5 s that equals a training clip", agreement, ""),
        "nearest_cosine": ("cosine to the nearest training clip", cosine, ""),
        "too_near": ("pieces nearer than independent music", flagged, ""),
    }
    for key, (what, numbers, unit) in rows.items():
        results.add(key, "originality", what, np.array(numbers), better="lower", unit=unit)
    for texts, one in zip(results.texts, near, strict=True):
        if one is not None:
            texts["nearest training clip"] = one.similar_clip
        if one is not None and one.run is not None:
            texts["longest shared run"] = f"{one.run_seconds:.2f} s of {one.run.clip}"


CODEC_ROWS: Mapping[str, tuple[str, str, str]] = {
    "codec_visqol": ("ViSQOL of the codec alone", "higher", ""),
    "codec_onsets": ("onsets kept by the codec, F1 over that of the original", "higher", ""),
    "codec_log_mel": ("log-mel distance of the codec alone", "lower", ""),
    "codec_si_sdr": ("SI-SDR of the codec alone", "higher", "dB"),
}
"""Optional values of the coded pieces of a reference set: name, which direction is better, unit."""


def add_codec(results: Results, reference: Reference | None) -> None:
    """Adds the fidelity of the codec alone, which was measured with the reference set."""
    if reference is None:
        return
    for key, (what, better, unit) in CODEC_ROWS.items():
        numbers = np.array([one.values.get(key, math.nan) for one in reference.coded])
        known = numbers[np.isfinite(numbers)]
        if len(known):
            figure = figure_of(
                f"{what}, {reference.levels} levels", mean_interval(known), unit=unit
            )
            results.rows.append(CardRow(key=key, section="codec", figure=figure, better=better))


def add_bias(
    results: Results, opened: Sequence[Measured], real_pieces: Sequence[Measured], seed: int
) -> None:
    """Adds the bias of outputs to open prompts against the `real_pieces` of the corpus, both
    measured by the same judge, so that its errors cancel."""
    if not opened or not real_pieces:
        missing = "there is no reference set" if opened else "there are no outputs to open prompts"
        results.notes.append(f"Bias was not measured: {missing}.")
        return
    biases, problems = measure_bias(
        [traits_of(one) for one in opened], [traits_of(one) for one in real_pieces], seed
    )
    results.rows += bias_rows(biases)
    results.notes += problems
    results.plots |= bias_plots(biases)
