"""General MIDI instruments: range, best melodic register, sustain and level.

They keep arrangements playable and the lead audible. Ranges follow the instrumentation tables of
Adler 2016, "The Study of Orchestration", narrowed to what soundfonts render well.
"""

from __future__ import annotations

from dataclasses import dataclass

from melisma.values.errors import MelismaError


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """Range and register of a program."""

    low: int
    high: int
    """Lowest and highest MIDI pitch."""
    centre: int
    """Best median MIDI pitch of a melody."""
    sustains: bool
    """Whether a held note keeps its level (bowed, blown), or decays (plucked, struck)."""


def _instrument(low: int, high: int, centre: int, sustains: bool) -> Instrument:
    return Instrument(low=low, high=high, centre=centre, sustains=sustains)


_PIANO = _instrument(28, 103, 72, False)
_SYNTH = _instrument(40, 96, 72, True)

INSTRUMENTS: dict[int, Instrument] = {
    **dict.fromkeys((0, 1, 2, 3), _PIANO),
    4: _instrument(33, 96, 70, False),
    5: _instrument(33, 96, 71, False),
    6: _instrument(36, 88, 70, False),
    7: _instrument(36, 84, 66, False),
    8: _instrument(60, 103, 82, False),
    9: _instrument(72, 105, 86, False),
    10: _instrument(60, 100, 82, False),
    11: _instrument(53, 89, 72, False),
    12: _instrument(45, 93, 70, False),
    13: _instrument(65, 103, 82, False),
    14: _instrument(60, 79, 70, False),
    15: _instrument(48, 86, 72, False),
    **dict.fromkeys((16, 17, 18, 19, 20), _instrument(36, 91, 70, True)),
    21: _instrument(48, 91, 73, True),
    22: _instrument(55, 91, 72, True),
    23: _instrument(48, 91, 72, True),
    24: _instrument(40, 83, 66, False),
    25: _instrument(40, 83, 66, False),
    26: _instrument(40, 84, 66, False),
    27: _instrument(40, 86, 67, False),
    28: _instrument(40, 80, 62, False),
    29: _instrument(40, 88, 70, True),
    30: _instrument(40, 88, 70, True),
    **dict.fromkeys((32, 33, 34, 35, 36, 37, 38, 39), _instrument(28, 60, 40, False)),
    40: _instrument(55, 96, 75, True),
    41: _instrument(48, 84, 67, True),
    42: _instrument(36, 79, 60, True),
    43: _instrument(28, 60, 40, True),
    44: _instrument(48, 88, 67, True),
    45: _instrument(43, 88, 67, False),
    46: _instrument(36, 96, 71, False),
    47: _instrument(36, 57, 43, False),
    **dict.fromkeys((48, 49, 50, 51), _instrument(36, 93, 72, True)),
    **dict.fromkeys((52, 53, 54), _instrument(48, 81, 68, True)),
    56: _instrument(54, 84, 69, True),
    57: _instrument(43, 74, 61, True),
    58: _instrument(28, 58, 40, True),
    59: _instrument(54, 82, 69, True),
    60: _instrument(43, 79, 64, True),
    61: _instrument(43, 82, 66, True),
    62: _instrument(43, 84, 68, True),
    63: _instrument(43, 84, 68, True),
    64: _instrument(56, 87, 71, True),
    65: _instrument(49, 81, 67, True),
    66: _instrument(44, 79, 64, True),
    67: _instrument(36, 69, 55, True),
    68: _instrument(58, 87, 73, True),
    69: _instrument(52, 81, 67, True),
    70: _instrument(34, 74, 59, True),
    71: _instrument(50, 88, 70, True),
    72: _instrument(74, 103, 86, True),
    73: _instrument(60, 96, 78, True),
    74: _instrument(60, 94, 77, True),
    75: _instrument(60, 93, 76, True),
    76: _instrument(60, 90, 74, True),
    78: _instrument(60, 96, 78, True),
    79: _instrument(60, 90, 76, True),
    **dict.fromkeys(range(80, 104), _SYNTH),
    105: _instrument(48, 84, 67, False),
    108: _instrument(53, 89, 72, False),
}
"""Instrument by General MIDI program."""

_LEVELS_DB: dict[int, tuple[int, ...]] = {
    -14: (13,),
    -10: (86,),
    -7: (15,),
    -6: (28, 69, 101),
    -4: (0, 1, 3, 11, 89),
    -3: (9, 21, 27, 41, 48, 88, 108),
    -2: (5, 23, 24, 47, 52, 63, 82, 83, 102),
    -1: (7, 8, 10, 12, 14, 16, 22, 37, 44, 49, 56, 62, 81, 87, 97, 98, 100, 105),
    1: (34, 40, 45, 50, 61, 70, 80, 84, 96),
    2: (18, 26, 29, 32, 51, 53, 58, 64, 68, 75, 91, 92),
    3: (4, 17, 33, 35, 66, 71, 72, 76, 95, 103),
    4: (57, 60, 65, 73, 79, 85, 93, 99),
    5: (74,),
    6: (78,),
    7: (30, 39),
}
_LEVEL_DB: dict[int, float] = {
    program: float(level) for level, programs in _LEVELS_DB.items() for program in programs
}


def level_db(program: int) -> float:
    """Level of a program relative to the median program at equal velocity, in decibels.

    Measured on FluidR3 GM: the loudest 0.4 s of three notes around the centre, velocity 90.
    """
    return _LEVEL_DB.get(program, 0.0)


def velocity_factor(program: int) -> float:
    """Factor on the velocities of a program that balances it with other parts.

    The gain of soundfont synthesis is 40 log10 of the velocity (SoundFont 2.04, section 8.4.1);
    only half of the level difference is compensated, because soundfonts differ.
    """
    return 10.0 ** (-0.5 * level_db(program) / 40.0)


def to_range(program: int, pitch: int) -> int:
    """Transpose a pitch by octaves into the range of a program."""
    instrument = INSTRUMENTS[program]
    while pitch < instrument.low:
        pitch += 12
    while pitch > instrument.high:
        pitch -= 12
    return pitch


def fit_octave(pitches: list[int], instrument: Instrument) -> int:
    """Find the octave shift that puts a line best into the register of an instrument.

    Args:
        pitches: MIDI pitches of the line, at least one.
        instrument: The instrument.

    Returns:
        Shift in semitones, a multiple of 12.

    Raises:
        MelismaError: If the line does not fit into the range of the instrument.
    """
    best: tuple[float, int] | None = None
    for shift in range(-48, 49, 12):
        low, high = min(pitches) + shift, max(pitches) + shift
        if low < instrument.low or high > instrument.high:
            continue
        middle = sorted(pitches)[len(pitches) // 2] + shift
        distance = abs(middle - instrument.centre)
        if best is None or distance < best[0]:
            best = (distance, shift)
    if best is None:
        raise MelismaError(
            f"a line from {min(pitches)} to {max(pitches)} does not fit an instrument of "
            f"{instrument.low} to {instrument.high}: choose another instrument"
        )
    return best[1]
