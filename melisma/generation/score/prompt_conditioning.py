"""Conditioning of the score model by a prompt.

Input: a `ScorePrompt`. Output: a `ScoreConditioning`. The text tower of the joint embedding
predicts attributes from the words; what the words state explicitly, and the exact settings,
override it. Tempo and metre are fixed before sampling, so the file has exactly these; that the
*notes* follow them is up to the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from melisma.generation.conditioning.prompt import (
    ATTRIBUTE_THRESHOLD,
    absent_families,
    sampled_tempo_bpm,
)
from melisma.generation.conditioning.understanding import Understanding, Used, understand
from melisma.generation.score.instrumentation import (
    ensemble_places,
    excluded_programs,
    family_choices,
    instruments_in,
    program_of_name,
    solo_parts,
)
from melisma.joint import JointEmbedding
from melisma.joint.attributes import ATTRIBUTES, BLOCKS, AttributePrediction
from melisma.joint.embedding import NO_WORDS
from melisma.joint.instrument_words import NamedInstrument
from melisma.joint.settings_words import read_bar_metre, read_settings
from melisma.lm.score.conditioning import SCORE_ATTRIBUTES, ScoreConditions, class_of
from melisma.lm.score.plan import Choice
from melisma.lm.score.rows import home_shift
from melisma.symbolic.instruments import INSTRUMENTS
from melisma.values import Facts
from melisma.values.attributes import FAMILIES, METRES, MOODS, STYLES, TONALITIES, program_family
from melisma.values.composers import named_period, period
from melisma.values.errors import MelismaError
from melisma.values.events import BAR_METRES, DRUM_PROGRAM, tempo_class
from melisma.values.score_prompt import ScorePrompt, felt_beat, parse_time_signature
from melisma.values.traditions import COMPOSERS, TRADITIONS, named_composer, named_tradition

FAMILY_THRESHOLD = 0.7
"""Least probability of a family that plays where no instrument is named."""
MODE_THRESHOLD = 0.7
"""Least probability of a mode that is used where the key itself is uncertain."""
MOOD_THRESHOLD = 0.5
"""Least probability of a mood that is used."""
THREE_CLASS_THRESHOLD = 0.6
"""Least probability of a class that is used, for attributes of three classes."""

_USUAL_METRES: dict[str, tuple[int, int]] = {
    "waltz": (3, 4), "Polish mazurka": (3, 4), "polonaise": (3, 4), "minuet": (3, 4),
    "polka": (2, 4), "Polish krakowiak": (2, 4), "tango": (2, 4), "ragtime": (2, 4),
    "march": (4, 4),
}  # fmt: skip
"""Metre that a tradition or style implies."""
_TONIC_WEIGHTS = (9, 1, 7, 4, 4, 7, 1, 9, 3, 6, 5, 2)
"""Weight of each tonic where only the mode is requested and the tonic is sampled: few sharps and
flats (chosen)."""


@dataclass(frozen=True, kw_only=True)
class ScoreConditioning:
    """What one prompt requests of a score."""

    prompt: ScorePrompt
    words: np.ndarray
    """Joint embedding of the words, float32 [128]; zeros without words."""
    tempo_bpm: float
    """Felt beats per minute."""
    metre: tuple[int, int]
    """Time signature (numerator, denominator)."""
    tonality: str | None
    """Musical key, such as "A minor"; None: open."""
    mode: str | None
    """ "major" or "minor" where requested, alone or as part of the key."""
    programs: tuple[int, ...]
    """Programs of fixed parts."""
    choices: tuple[Choice, ...]
    """Parts whose programs the model chooses."""
    named: tuple[int, ...]
    """Programs that the prompt names, in fixed parts or choices; empty where it names none."""
    excluded: Mapping[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    """Programs that do not play, by the name under which they are excluded."""
    attributes: dict[str, str]
    """Class of every requested attribute except the tempo."""
    families: tuple[str, ...]
    """Requested instrument families."""
    moods: tuple[str, ...]
    """Requested moods."""
    stated: Facts
    """What words and settings state explicitly, instruments by name, for the receipt."""
    from_given_piece: Mapping[str, str] = field(default_factory=dict[str, str])
    """What was taken from a given score, in words, by attribute."""

    @property
    def excluded_programs(self) -> frozenset[int]:
        """Programs that do not play."""
        return frozenset().union(*self.excluded.values())

    @property
    def bars(self) -> int:
        """Number of bars to sample."""
        if self.prompt.bars is not None:
            return self.prompt.bars
        beats = self.prompt.duration_seconds * self.tempo_bpm / 60.0
        return max(round(beats * felt_beat(self.metre) / self.bar_beats), 2)

    @property
    def bar_beats(self) -> float:
        """Length of a bar in quarter notes."""
        return self.metre[0] * 4.0 / self.metre[1]

    @property
    def quarter_bpm(self) -> float:
        """Quarter notes per minute."""
        return self.tempo_bpm * felt_beat(self.metre)

    @property
    def metre_class(self) -> int:
        """Index of the metre in `BAR_METRES`."""
        return BAR_METRES.index(self.metre)

    @property
    def tempo_class(self) -> int:
        """Tempo class of the bars, see `values.events.tempo_class`."""
        return tempo_class(self.quarter_bpm)

    @property
    def home_shift(self) -> int:
        """Semitones from the requested key to the one the model works in, see `rows.home_shift`."""
        return 0 if self.tonality is None else home_shift(TONALITIES.index(self.tonality))

    def shown(self) -> dict[str, str]:
        """The conditioning in words, by attribute, for receipts."""
        shown = {
            "tempo": f"{self.tempo_bpm:.0f} bpm",
            "metre": f"{self.metre[0]}/{self.metre[1]}",
        }
        for name in ("tonality", "composer", "tradition", "style", "density", "dynamics"):
            if name in self.attributes:
                shown[name] = self.attributes[name]
        if self.named:
            shown["instruments"] = ", ".join(_program_name(program) for program in self.named)
        if self.excluded:
            shown["without"] = ", ".join(self.excluded)
        return shown


def condition_on_score_prompt(
    joint: JointEmbedding, prompt: ScorePrompt, generator: torch.Generator
) -> ScoreConditioning:
    """Computes the conditioning of a prompt.

    Args:
        joint: The joint embedding, whose text tower predicts attributes from the words.
        prompt: Words, possibly empty, and exact settings.
        generator: Samples the tempo that words and settings leave open, and the tonic where only a
            mode is requested.

    Raises:
        MelismaError: The words and the settings state different metres, or everything that could
            play is excluded.
    """
    words = prompt.words.strip()
    kept = read_settings(words).kept.strip()
    absent = absent_families(prompt)
    reading = joint.read_prompt(words, absent) if words else _prediction_without_words()
    metre = _metre(prompt, reading, words)
    stated = Facts(
        tempo_bpm=prompt.tempo_bpm or reading.stated.tempo_bpm,
        tonality=prompt.tonality or reading.stated.tonality,
        metre=f"{metre[0]}/{metre[1]}",
    )
    tonality, mode = _tonality(stated.tonality, reading, generator, bool(words))
    tempo_bpm = stated.tempo_bpm or sampled_tempo_bpm(reading, generator)
    attributes = _attributes(prompt, reading, kept)
    if tonality is not None:
        attributes["tonality"] = tonality
    if stated.metre in METRES:
        attributes["metre"] = stated.metre
    excluded = excluded_programs(words, prompt.without)
    programs, choices, named = _instrumentation(prompt, reading, words, excluded)
    families = tuple(dict.fromkeys(_family(program) for program in named)) or (
        reading.classes_above("families", FAMILY_THRESHOLD) if words else ()
    )
    if attributes.get("lead") not in (*families, None):
        del attributes["lead"]
    is_stated = prompt.metre or reading.stated.metre or read_bar_metre(words) == metre
    return ScoreConditioning(
        prompt=prompt,
        words=joint.embed_text([kept or NO_WORDS])[0] if words else np.zeros(128, np.float32),
        tempo_bpm=float(tempo_bpm),
        metre=metre,
        tonality=tonality,
        mode=mode,
        programs=programs,
        choices=choices,
        named=named,
        excluded=excluded,
        attributes=attributes,
        families=families,
        moods=reading.classes_above("moods", MOOD_THRESHOLD) if words else (),
        stated=dataclasses.replace(
            stated,
            metre=stated.metre if is_stated else None,
            instruments=tuple(_program_name(program) for program in named),
        ),
    )


def _program_name(program: int) -> str:
    return "drums" if program == DRUM_PROGRAM else INSTRUMENTS[program]


def _prediction_without_words() -> AttributePrediction:
    """Equal probabilities of all classes; for tempi a log-normal distribution around 100 bpm."""
    row = np.zeros(max(block.stop for block in BLOCKS.values()), dtype=np.float32)
    for attribute in ATTRIBUTES:
        block = BLOCKS[attribute.name]
        row[block] = 0.0 if attribute.several else 1.0 / (block.stop - block.start)
    tempi = np.array([float(word) for word in ATTRIBUTES[0].classes])
    row[BLOCKS["tempo"]] = np.exp(-0.5 * (np.log2(tempi / 100) / 0.35) ** 2)
    row[BLOCKS["tempo"]] /= row[BLOCKS["tempo"]].sum()
    return AttributePrediction(row=row)


def _metre(prompt: ScorePrompt, reading: AttributePrediction, words: str) -> tuple[int, int]:
    said = read_bar_metre(words)
    if said not in BAR_METRES:
        said = None if reading.stated.metre is None else parse_time_signature(reading.stated.metre)
    if prompt.metre is not None and said is not None and not _same_numerators(said, prompt.metre):
        raise MelismaError(
            f"the words say {said[0]}/{said[1]} and the setting {prompt.metre[0]}/"
            f"{prompt.metre[1]}: no bar is both, so change one of them"
        )
    if prompt.metre is not None or said is not None:
        return prompt.metre or said or (4, 4)
    for name in (prompt.style, named_tradition(words)):
        if name in _USUAL_METRES:
            return _USUAL_METRES[name]
    best, probability = reading.best("metre")
    return parse_time_signature(best) if probability >= ATTRIBUTE_THRESHOLD else (4, 4)


def _same_numerators(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether the numerators of two metres are equal up to a power of two, as of 2/4 and 4/4."""
    odd = [numerator // (numerator & -numerator) for numerator, _ in (one, other)]
    return one == other or odd[0] == odd[1]


def _tonality(
    stated: str | None, reading: AttributePrediction, generator: torch.Generator, has_words: bool
) -> tuple[str | None, str | None]:
    """(key, mode). Where the words request only a mode, the tonic is sampled."""
    if stated is not None:
        return stated, stated.split()[1]
    if not has_words:
        return None, None
    best, probability = reading.best("tonality")
    block = reading.row[BLOCKS["tonality"]]
    major = float(block[:12].sum()) / max(float(block.sum()), 1e-9)
    if probability >= ATTRIBUTE_THRESHOLD:
        return best, best.split()[1]
    if max(major, 1 - major) < MODE_THRESHOLD:
        return None, None
    weights = torch.tensor(_TONIC_WEIGHTS, dtype=torch.float64, device="cpu")
    tonic = int(torch.multinomial(weights, 1, generator=generator))
    mode = "major" if major > 0.5 else "minor"
    return TONALITIES[tonic + (12 if mode == "minor" else 0)], mode


def _attributes(prompt: ScorePrompt, reading: AttributePrediction, words: str) -> dict[str, str]:
    """Classes of style, composer, tradition, density etc. that are requested."""
    found: dict[str, str] = {}
    if words:
        for name in ("lead", "style", "density", "dynamics", "register", "articulation"):
            many_classes = name in ("lead", "style")
            threshold = ATTRIBUTE_THRESHOLD if many_classes else THREE_CLASS_THRESHOLD
            best, probability = reading.best(name)
            if probability >= threshold:
                found[name] = best
    composer, tradition = named_composer(words), named_tradition(words)
    if prompt.style in COMPOSERS:
        composer = prompt.style
    elif prompt.style in STYLES:
        found["style"] = prompt.style
    elif prompt.style in TRADITIONS:
        tradition = prompt.style
    style_period = named_period(words)
    if composer is not None:
        found["composer"] = composer
        style_period = period(composer)
    if style_period is not None and prompt.style not in STYLES:
        found["style"] = style_period
    if tradition is not None:
        found["tradition"] = tradition
        known = style_period is not None or prompt.style in STYLES
        if not known and found.get("style", "") not in words:
            found.pop("style", None)  # the tradition, e.g. polka, says more than a predicted style
    return found


def _instrumentation(
    prompt: ScorePrompt,
    reading: AttributePrediction,
    words: str,
    excluded: dict[str, frozenset[int]],
) -> tuple[tuple[int, ...], tuple[Choice, ...], tuple[int, ...]]:
    """(programs of fixed parts, choices of the model, programs that the prompt names).

    Programs that the settings request are taken out of `excluded`.
    """
    _check_programs(prompt, excluded)
    if len(prompt.programs) == 1:
        return *solo_parts(prompt.programs[0]), prompt.programs
    if prompt.programs:
        return prompt.programs, (), tuple(dict.fromkeys(prompt.programs))
    silent = frozenset().union(*excluded.values())
    fixed, choices = instruments_in(words)
    fixed = tuple(program for program in fixed if program not in silent)
    choices = _without(choices, silent)
    if fixed or choices:
        named = [*fixed, *(p for choice in choices for p in choice.programs)]
        return fixed, choices, tuple(dict.fromkeys(named))
    families = reading.classes_above("families", FAMILY_THRESHOLD) if words else ()
    if len(silent) > DRUM_PROGRAM:
        raise MelismaError("all instruments are excluded: name one that may play")
    return (), family_choices(families, silent), ()


def _check_programs(prompt: ScorePrompt, excluded: dict[str, frozenset[int]]) -> None:
    """Instruments of the settings override what the words exclude; what the settings exclude they
    must not request."""
    requested = frozenset(prompt.programs)
    for name, programs in list(excluded.items()):
        both = sorted(programs & requested)
        if both and name in prompt.without:
            raise MelismaError(
                f"{_program_name(both[0])} is requested by the instruments and excluded by "
                f'"without {name}": leave out one of them'
            )
        excluded[name] = programs - requested
        if not excluded[name]:
            del excluded[name]


def _without(choices: Sequence[Choice], silent: frozenset[int]) -> tuple[Choice, ...]:
    """The choices without some programs, and without those that have no others."""
    left = [dataclasses.replace(one, programs=one.programs - silent) for one in choices]
    return tuple(one for one in left if one.programs)


def _family(program: int) -> str:
    drum = program == DRUM_PROGRAM
    return program_family(0 if drum else program, drum)


def understanding_of_score(conditioning: ScoreConditioning) -> Understanding:
    """What of a prompt was understood.

    Args:
        conditioning: Of the task, completed from the score that was given.
    """
    prompt = conditioning.prompt
    words = prompt.words.strip()
    said, facts, taken = read_settings(words), conditioning.stated, conditioning.from_given_piece
    values = {"tempo": facts.tempo_bpm, "tonality": facts.tonality, "metre": facts.metre}
    own = {"tempo": "" if facts.tempo_bpm is None else f"{facts.tempo_bpm:.0f} bpm"}
    # A given piece keeps its own tempo, key and metre whatever the words say.
    for name in taken.keys() & values.keys():
        if taken[name] != own.get(name, values[name]):
            values[name] = None
    values |= {name: conditioning.attributes.get(name) for name in ("composer", "tradition")}
    stated = {name for name, value in values.items() if value is not None}
    names = tuple(_program_name(program) for program in conditioning.named)
    if names and facts.instruments == names:
        stated.add("instruments")
    if prompt.style is not None:
        stated |= {n for n in _STYLE_ATTRIBUTES if conditioning.attributes.get(n) == prompt.style}
    shown = {name: one for name, one in conditioning.shown().items() if name != "without"}
    if "instruments" not in shown:
        theirs = taken.get("instruments", "").split(", ")
        own_families = [one for one in conditioning.families if one not in theirs]
        shown |= {"instruments": ", ".join(own_families)} if own_families else {}

    def plays(one: NamedInstrument) -> bool:
        return program_of_name(one.name) in conditioning.named or bool(
            {_family(program) for program in conditioning.named}.intersection(one.families)
        )

    listed = [name for name in prompt.without if name in conditioning.excluded]
    used = Used(
        shown=shown,
        stated=frozenset(stated),
        tempo_bpm=conditioning.tempo_bpm,
        tonality=conditioning.tonality or conditioning.mode,
        attributes=conditioning.attributes,
        moods=conditioning.moods,
        plays=plays,
        excluded=tuple(dict.fromkeys([*conditioning.excluded, *listed])),
        has_traditions=True,
        from_given_piece=taken,
    )
    return understand(words, said, used, ensemble_places(words))


_STYLE_ATTRIBUTES = ("style", "composer", "tradition")


def conditioning_of(conditionings: list[ScoreConditioning]) -> ScoreConditions:
    """Batches the conditioning of several pieces into the tensors of the score model."""
    unknown = ScoreConditions.absent(len(conditionings))
    attributes, families = unknown.attributes.clone(), unknown.families.clone()
    moods = unknown.moods.clone()
    for row, one in enumerate(conditionings):
        facts = dict[str, object](one.attributes)
        for column, (name, _) in enumerate(SCORE_ATTRIBUTES):
            if name == "tempo":
                attributes[row, column] = class_of("tempo", one.tempo_bpm)
            elif name in facts:
                attributes[row, column] = class_of(name, facts[name])
            if name == "tonality" and name in facts:
                attributes[row, column] = (
                    attributes[row, column] // 12 * 12
                )  # the tonic that the model works in
        if one.families:
            families[row] = torch.tensor(
                [float(name in one.families) for name in FAMILIES],
                dtype=torch.float32,
                device="cpu",
            )
        if one.moods:
            moods[row] = torch.tensor(
                [float(name in one.moods) for name in MOODS], dtype=torch.float32, device="cpu"
            )
    return dataclasses.replace(
        unknown,
        words=torch.from_numpy(np.stack([one.words for one in conditionings])).float(),
        attributes=attributes,
        families=families,
        moods=moods,
    )
