"""Adherence of generated scores to their prompts, and comparison with real music.

Tempo, key, metre and instruments are measured from the *notes* (`melisma/analysis/score`) and,
where there is sound, tempo from the sound as well; never from the tempo and metre events of the
file, which repeat the request. The tradition is recognised by `models/tradition_classifier.py`,
copies by `analysis/similarity/melody_index.py`. The same functions on held-out real pieces with
their own facts give the ceilings.

Input: `RequestedScoreAttributes` and `Score`s. Output: one `MeasuredScoreAttributes` per piece, and
rows of the table. The tolerances are those of cards; a receipt is stricter with the tempo (5 %).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from melisma.analysis.audio.tempo import measure_tempo, meets_tempo
from melisma.analysis.score.instruments import match_instruments, playing_families, playing_programs
from melisma.analysis.score.key import measure_score_tonality
from melisma.analysis.score.metre import BAR_BEATS, MetreEvidence, measure_score_metre
from melisma.analysis.score.structure import ScoreStructure, measure_score_structure
from melisma.analysis.score.tempo import measure_score_tempo
from melisma.analysis.similarity.melody_index import SharedRun
from melisma.evaluate.legacy_keys import NEAR_TRADITION_KEY, TRADITION_KEY
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.evaluate.metrics.statistics import (
    Interval,
    constant_chance,
    mean_interval,
    median_interval,
)
from melisma.evaluate.models.tradition_classifier import TRADITION_CLASSES, TraditionClassifier
from melisma.files.typed_json import parse_json, some_fields, typed
from melisma.joint.settings_words import read_settings
from melisma.values import Score, Waveform
from melisma.values.attributes import FAMILIES, METRE_KINDS
from melisma.values.errors import MelismaError
from melisma.values.prompt import decode_text, split_lines

TEMPO_TOLERANCE = 0.08
"""A tempo stated as a number is met within this share (two bins of the tempo attribute)."""
TEMPO_WORD_BPM: dict[str, tuple[float, float]] = {
    "very slow": (0.0, 66.0),
    "slow": (0.0, 80.0),
    "moderate": (76.0, 120.0),
    "fast": (112.0, 999.0),
    "very fast": (144.0, 999.0),
}
"""A tempo stated as a word is met within these limits, both included; they overlap, because people
do not agree where slow ends (compare `data.captions.vocabulary.TEMPO_WORDS`, whose ranges are
disjoint)."""
TOP_TRADITIONS = 3
"""The requested tradition is also counted where it is among the three likeliest."""
USUAL_SHARE = 0.95
"""Quantile of the longest shared run of real pieces above which a run is unusual."""


@dataclass(frozen=True, kw_only=True)
class RequestedScoreAttributes:
    """Attributes that a prompt requests of a score; None or empty where it leaves them open."""

    words: str
    wording: str = "own"
    """ "own" for prompts that people might write, "grammar" for those of `data.captions.writer`."""
    tempo_bpm: float | None = None
    tempo_word: str | None = None
    """One of `TEMPO_WORD_BPM`; prompts state a number or a word, real pieces count for both."""
    tonality: str | None = None
    mode: str | None = None
    """"major" or "minor"; also where the key is stated."""
    metre: str | None = None
    families: tuple[str, ...] = ()
    programs: tuple[int, ...] = ()
    """General MIDI programs of the instruments, `DRUMS` for kits; empty where only families are
    named."""
    complete: bool = True
    """Whether all instruments are named; otherwise others may play as well, and only recall
    counts."""
    tradition: str | None = None
    """One of `TRADITION_CLASSES`."""


@dataclass(frozen=True, kw_only=True)
class MeasuredScoreAttributes:
    """Attributes measured in one score."""

    tempo_bpm: float | None
    """From the notes."""
    sound_tempo_bpm: float | None
    """From the sound; None also where no sound was given."""
    tonality: str | None
    metre: MetreEvidence | None
    """Evidence for the requested metre; None where none was requested."""
    families: tuple[str, ...]
    programs: tuple[int, ...]
    traditions: np.ndarray | None
    """Probability of each of `TRADITION_CLASSES`, float64 [class]; zeros where there are too few
    notes, None without a classifier."""
    structure: ScoreStructure
    shared: SharedRun | None
    """Longest run shared with a training piece; None without an index."""


def stated_score_attributes(words: str) -> RequestedScoreAttributes:
    """Attributes that a text states explicitly: tempo, key, metre, families of instruments."""
    stated = read_settings(words)
    return RequestedScoreAttributes(
        words=words,
        tempo_bpm=stated.tempo_bpm,
        tonality=stated.tonality,
        mode=stated.tonality.split()[1] if stated.tonality else None,
        metre=stated.metre if stated.metre in BAR_BEATS else None,
        families=stated.families,
        complete=False,
    )


def score_prompts_file() -> Path:
    """Path of the prompts that are part of the package, half of them not written by our caption
    grammar."""
    return Path(__file__).with_name("score_prompts.jsonl")


def read_score_requests(path: Path) -> list[RequestedScoreAttributes]:
    """Reads a list of prompts with their requests, one JSON object per line.

    Raises:
        MelismaError: If a row states an unknown tempo word, metre or tradition.
    """
    prompts: list[RequestedScoreAttributes] = []
    for number, line in enumerate(split_lines(decode_text(path.read_bytes(), str(path)))):
        if not line:
            continue
        where = f"line {number + 1} of {path}"
        row = typed(parse_json(line, where), dict[str, Any], where)
        names = {"prompt": "words", TRADITION_KEY: "tradition"}
        fields = {names.get(name, name): value for name, value in row.items()}
        prompt = some_fields(fields, RequestedScoreAttributes, where)
        known = (
            prompt.tempo_word in (None, *TEMPO_WORD_BPM)
            and prompt.metre in (None, *BAR_BEATS)
            and prompt.tradition in (None, *TRADITION_CLASSES)
        )
        if not known:
            raise MelismaError(f"{path} states an unknown fact in line {number + 1}: {line}")
        prompts.append(prompt)
    return prompts


def measure_score(
    score: Score,
    prompt: RequestedScoreAttributes,
    judge: TraditionClassifier | None,
    nearest: Callable[[Score], SharedRun] | None,
    sound: Waveform | None = None,
) -> MeasuredScoreAttributes:
    """Measures everything about one score.

    Args:
        score: The piece; its bars are those of the requested metre, 4/4 by default.
        prompt: What was requested.
        judge: Classifier of traditions, if any.
        nearest: Finds the longest run shared with training pieces, if there is an index.
        sound: The rendered score, for the tempo in the sound.
    """
    bar_beats = BAR_BEATS.get(prompt.metre or "4/4", 4.0)
    traditions = None
    if judge is not None:
        found = judge.judge(score)
        traditions = np.zeros(len(TRADITION_CLASSES)) if found is None else found
    return MeasuredScoreAttributes(
        tempo_bpm=measure_score_tempo(score).bpm,
        sound_tempo_bpm=None if sound is None else measure_tempo(sound).bpm,
        tonality=measure_score_tonality(score).tonality,
        metre=None if prompt.metre is None else measure_score_metre(score, prompt.metre),
        families=playing_families(score, bar_beats),
        programs=playing_programs(score, bar_beats),
        traditions=traditions,
        structure=measure_score_structure(score, bar_beats),
        shared=None if nearest is None else nearest(score),
    )


def meets_tempo_word(bpm: float | None, word: str, octave: bool = False) -> bool:
    """Whether a tempo is in the range of a word of `TEMPO_WORD_BPM`.

    Args:
        bpm: The measured tempo, if any.
        word: The requested word.
        octave: Whether half and double the tempo count as well.
    """
    low, high = TEMPO_WORD_BPM[word]
    if bpm is None:
        return False
    factors = (1.0, 0.5, 2.0) if octave else (1.0,)
    return any(low <= bpm * factor <= high for factor in factors)


def instrument_marks(
    measured: MeasuredScoreAttributes, prompt: RequestedScoreAttributes
) -> tuple[float, float | None]:
    """F1 of the families and of the programs (None where none is named); recall instead where the
    prompt does not name all instruments."""
    families = match_instruments(prompt.families, measured.families)
    mark = families.f1 if prompt.complete else families.recall
    if not prompt.programs:
        return mark, None
    programs = match_instruments(prompt.programs, measured.programs)
    return mark, programs.f1 if prompt.complete else programs.recall


def tradition_rank(measured: MeasuredScoreAttributes, tradition: str) -> int:
    """Rank of the requested tradition, 0 for the likeliest; the number of classes where nothing was
    recognised."""
    if measured.traditions is None or not measured.traditions.any():
        return len(TRADITION_CLASSES)
    return int(
        (measured.traditions > measured.traditions[TRADITION_CLASSES.index(tradition)]).sum()
    )


Pair = tuple[RequestedScoreAttributes, MeasuredScoreAttributes]
Mark = Callable[[RequestedScoreAttributes, MeasuredScoreAttributes], float | None]


def _number_mark(octave: bool, sound: bool) -> Mark:
    def mark(prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes) -> float | None:
        if prompt.tempo_bpm is None or (sound and measured.sound_tempo_bpm is None):
            return None
        bpm = measured.sound_tempo_bpm if sound else measured.tempo_bpm
        return float(meets_tempo(bpm, prompt.tempo_bpm, TEMPO_TOLERANCE, octave=octave))

    return mark


def _word_mark(octave: bool) -> Mark:
    def mark(prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes) -> float | None:
        if prompt.tempo_word is None:
            return None
        return float(meets_tempo_word(measured.tempo_bpm, prompt.tempo_word, octave))

    return mark


def _tonality_mark(
    prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes
) -> float | None:
    return None if prompt.tonality is None else float(measured.tonality == prompt.tonality)


def _mode_mark(prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes) -> float | None:
    if prompt.mode is None:
        return None
    return float(measured.tonality is not None and measured.tonality.endswith(prompt.mode))


def _kind_mark(prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes) -> float | None:
    if prompt.metre is None or measured.metre is None:
        return None
    return float(measured.metre.kind == METRE_KINDS[prompt.metre])


def _metre_mark(
    prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes
) -> float | None:
    return None if prompt.metre is None or measured.metre is None else float(measured.metre.agrees)


def _full_mark(prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes) -> float | None:
    return None if prompt.metre is None or measured.metre is None else measured.metre.full_share


def _family_mark(
    prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes
) -> float | None:
    return instrument_marks(measured, prompt)[0] if prompt.families else None


def _program_mark(
    prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes
) -> float | None:
    return instrument_marks(measured, prompt)[1] if prompt.families else None


def _tradition_mark(within: int) -> Mark:
    def mark(prompt: RequestedScoreAttributes, measured: MeasuredScoreAttributes) -> float | None:
        if prompt.tradition is None or measured.traditions is None:
            return None
        return float(tradition_rank(measured, prompt.tradition) < within)

    return mark


MARKS: Mapping[str, tuple[str, Mark]] = {
    "tempo": ("stated tempo within 8 %, notes", _number_mark(octave=False, sound=False)),
    "tempo_octave": (
        "stated tempo, half and double count, notes",
        _number_mark(octave=True, sound=False),
    ),
    "tempo_sound": ("stated tempo within 8 %, sound", _number_mark(octave=False, sound=True)),
    "tempo_sound_octave": (
        "stated tempo, half and double count, sound",
        _number_mark(octave=True, sound=True),
    ),
    "tempo_word": ("tempo word, notes", _word_mark(octave=False)),
    "tempo_word_octave": ("tempo word, half and double count", _word_mark(octave=True)),
    "tonality": ("stated key, notes", _tonality_mark),
    "mode": ("major or minor, notes", _mode_mark),
    "metre_kind": ("kind of metre, notes", _kind_mark),
    "metre": ("bars full and accented as the metre requires", _metre_mark),
    "full_bars": ("share of full bars", _full_mark),
    "families": ("instrument families, F1", _family_mark),
    "programs": ("instruments by program, F1", _program_mark),
    TRADITION_KEY: ("tradition recognised", _tradition_mark(1)),
    NEAR_TRADITION_KEY: (
        f"tradition among the likeliest {TOP_TRADITIONS}",
        _tradition_mark(TOP_TRADITIONS),
    ),
}
"""Key -> name of the row, and the mark of one piece from 0 to 1 (None where it was not
requested)."""
_ANSWERS: Mapping[str, Callable[[RequestedScoreAttributes], str | None]] = {
    "tonality": lambda prompt: prompt.tonality,
    "mode": lambda prompt: prompt.mode,
    "metre_kind": lambda prompt: METRE_KINDS.get(prompt.metre or ""),
    TRADITION_KEY: lambda prompt: prompt.tradition,
    NEAR_TRADITION_KEY: lambda prompt: prompt.tradition,
}
"""Requested classes by key, for which chance is the share of the commonest."""
_OF_WORDINGS = (
    "tempo",
    "tempo_word",
    "tonality",
    "mode",
    "metre_kind",
    "families",
    TRADITION_KEY,
)
"""Marks whose mean is the share of requests met, reported for each wording."""


def marks(pairs: Sequence[Pair], mark: Mark) -> np.ndarray:
    """Marks of the pieces with such a request, float64 [piece]."""
    found = [mark(prompt, measured) for prompt, measured in pairs]
    return np.array([value for value in found if value is not None], dtype=np.float64)


def adherence_mark(pair: Pair) -> float | None:
    """Mean mark of one piece over the requests of its prompt; None where it has none."""
    found = [MARKS[key][1](*pair) for key in _OF_WORDINGS]
    stated = [value for value in found if value is not None]
    return float(np.mean(stated)) if stated else None


def _constant_tempo_chance(prompts: Sequence[RequestedScoreAttributes]) -> float | None:
    """Accuracy of the best constant answer for the stated numbers."""
    stated = [prompt.tempo_bpm for prompt in prompts if prompt.tempo_bpm is not None]
    if not stated:
        return None
    return max(
        float(np.mean([meets_tempo(guess, bpm, TEMPO_TOLERANCE) for bpm in stated]))
        for guess in stated
    )


def _constant_family_chance(prompts: Sequence[RequestedScoreAttributes]) -> float | None:
    """Mean F1 of the best generator that always plays a single family."""
    wanted = [prompt.families for prompt in prompts if prompt.families]
    if not wanted:
        return None
    return max(
        float(np.mean([match_instruments(families, (alone,)).f1 for families in wanted]))
        for alone in FAMILIES
    )


def mark_chance(key: str, prompts: Sequence[RequestedScoreAttributes]) -> float | None:
    """The mark of the best constant answer for a key of `MARKS`; None where it is not known."""
    if key in ("tempo", "tempo_octave", "tempo_sound", "tempo_sound_octave"):
        return _constant_tempo_chance(prompts)
    if key == "families":
        return _constant_family_chance(prompts)
    if key not in _ANSWERS:
        return None
    answers = [answer for prompt in prompts if (answer := _ANSWERS[key](prompt)) is not None]
    return constant_chance(answers, TOP_TRADITIONS if key == NEAR_TRADITION_KEY else 1)


def score_figures(
    outputs: Sequence[Pair], truth: Sequence[Pair], command: str, label: str
) -> list[Figure]:
    """Rows of the table.

    Args:
        outputs: Requested and measured attributes of the outputs.
        truth: The same of held-out real pieces with their own facts: the ceiling; may be empty.
        command: The command that makes these rows.
        label: How the outputs were generated.
    """
    figures: list[Figure] = []
    prompts = [prompt for prompt, _ in outputs]
    for key, (name, mark) in MARKS.items():
        values, ceiling = marks(outputs, mark), marks(truth, mark)
        if not len(values):
            continue
        chance = mark_chance(key, prompts)
        figures.append(
            figure_of(
                f"{name} ({label})",
                mean_interval(values),
                chance=chance,
                ceiling=float(ceiling.mean()) if len(ceiling) else None,
                command=command,
            )
        )
    for wording in dict.fromkeys(prompt.wording for prompt, _ in outputs):
        met = [adherence_mark(pair) for pair in outputs if pair[0].wording == wording]
        known = np.array([value for value in met if value is not None])
        if len(known):
            name = f"share of requests met, {wording} wording ({label})"
            figures.append(figure_of(name, mean_interval(known), command=command))
    return figures + _beside_real(outputs, truth, command, label)


def _beside_real(
    outputs: Sequence[Pair], truth: Sequence[Pair], command: str, label: str
) -> list[Figure]:
    """Rows on structure and on copies; the ceiling is the same metric of real pieces."""

    def row(name: str, interval: Interval, real: float | None) -> Figure:
        return figure_of(f"{name} ({label})", interval, ceiling=real, command=command)

    figures = []
    for field in dataclasses.fields(ScoreStructure):
        values = np.array([getattr(measured.structure, field.name) for _, measured in outputs])
        real = np.array([getattr(measured.structure, field.name) for _, measured in truth])
        name = field.name.replace("_", " ")
        figures.append(row(name, mean_interval(values), float(real.mean()) if len(real) else None))
    runs = [measured.shared for _, measured in outputs if measured.shared is not None]
    known = [measured.shared for _, measured in truth if measured.shared is not None]
    if runs:
        notes, shares = (np.array([getattr(r, f) for r in runs]) for f in ("notes", "share"))
        real_notes, real_shares = (
            np.array([getattr(r, f) for r in known]) for f in ("notes", "share")
        )
        found = bool(len(known))
        figures += [
            row(
                "notes of the longest run shared with a training piece, median",
                median_interval(notes),
                float(np.median(real_notes)) if found else None,
            ),
            row(
                "share of steps in shared runs of 16 notes or more",
                mean_interval(shares),
                float(real_shares.mean()) if found else None,
            ),
        ]
        if found:
            usual = float(np.quantile(real_notes, USUAL_SHARE))
            beyond = mean_interval(notes > usual)
            name = f"pieces with a longer shared run than {USUAL_SHARE:.0%} of real ones"
            figures.append(row(name, beyond, float((real_notes > usual).mean())))
    return figures
