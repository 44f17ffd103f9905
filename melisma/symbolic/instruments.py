"""English names and pitch ranges of the 128 General MIDI programs (General MIDI 1, 1991)."""

from __future__ import annotations

from melisma.values.errors import MelismaError

INSTRUMENTS: tuple[str, ...] = (
    "piano", "bright piano", "electric grand piano", "honky-tonk piano",
    "electric piano", "FM electric piano", "harpsichord", "clavinet",
    "celesta", "glockenspiel", "music box", "vibraphone",
    "marimba", "xylophone", "tubular bells", "dulcimer",
    "drawbar organ", "percussive organ", "rock organ", "church organ",
    "reed organ", "accordion", "harmonica", "bandoneon",
    "nylon-string guitar", "steel-string guitar", "jazz guitar", "clean electric guitar",
    "muted electric guitar", "overdriven guitar", "distorted guitar", "guitar harmonics",
    "double bass", "fingered bass", "picked bass", "fretless bass",
    "slap bass", "popped bass", "synth bass", "warm synth bass",
    "violin", "viola", "cello", "contrabass",
    "tremolo strings", "pizzicato strings", "harp", "timpani",
    "string ensemble", "slow strings", "synth strings", "warm synth strings",
    "choir", "voice oohs", "synth voice", "orchestra hit",
    "trumpet", "trombone", "tuba", "muted trumpet",
    "French horn", "brass section", "synth brass", "warm synth brass",
    "soprano sax", "alto sax", "tenor sax", "baritone sax",
    "oboe", "English horn", "bassoon", "clarinet",
    "piccolo", "flute", "recorder", "pan flute",
    "blown bottle", "shakuhachi", "whistle", "ocarina",
    "square lead", "saw lead", "calliope lead", "chiff lead",
    "charang lead", "voice lead", "fifths lead", "bass lead",
    "new age pad", "warm pad", "polysynth pad", "choir pad",
    "bowed pad", "metallic pad", "halo pad", "sweep pad",
    "rain synth", "soundtrack synth", "crystal synth", "atmosphere synth",
    "brightness synth", "goblin synth", "echo synth", "sci-fi synth",
    "sitar", "banjo", "shamisen", "koto",
    "kalimba", "bagpipe", "fiddle", "shanai",
    "tinkle bell", "agogo", "steel drums", "woodblock",
    "taiko drum", "tom drums", "synth drum", "reverse cymbal",
    "fret noise", "breath noise", "seashore", "bird tweet",
    "telephone ring", "helicopter", "applause", "gunshot",
)  # fmt: skip
"""A plain name for each program 0-127."""


def instrument_name(program: int, is_drum: bool) -> str:
    """Plain name of a General MIDI program 0-127; every drum kit is "drums"."""
    if is_drum:
        return "drums"
    if not 0 <= program <= 127:
        raise MelismaError(f"a General MIDI program lies between 0 and 127, not {program}")
    return INSTRUMENTS[program]


RANGES: dict[int, tuple[int, int]] = {
    0: (28, 100), 1: (28, 100), 4: (36, 96), 5: (36, 96), 6: (36, 89), 7: (40, 88),
    8: (60, 103), 10: (60, 96), 11: (53, 89), 12: (45, 96), 13: (65, 103),
    16: (36, 96), 17: (36, 96), 18: (36, 96), 19: (36, 96), 20: (40, 90),
    21: (50, 91), 22: (58, 91), 23: (50, 91),
    24: (40, 83), 25: (40, 84), 26: (40, 86), 27: (40, 86), 28: (40, 84), 29: (40, 86),
    30: (40, 86), 32: (28, 62), 33: (28, 62), 34: (28, 62), 35: (28, 62), 38: (28, 62),
    40: (55, 98), 41: (48, 86), 42: (36, 77), 43: (28, 60), 45: (36, 90), 48: (36, 96),
    49: (36, 96), 50: (36, 96), 46: (31, 98), 15: (48, 88), 104: (48, 84), 107: (48, 88),
    52: (41, 84), 53: (41, 84), 54: (41, 84),
    56: (53, 86), 57: (36, 74), 58: (28, 60), 59: (53, 86), 60: (40, 78), 61: (38, 86),
    62: (36, 90),
    64: (56, 89), 65: (49, 82), 66: (44, 77), 67: (36, 70), 68: (58, 90), 69: (52, 82),
    70: (34, 73), 71: (50, 91), 72: (74, 104), 73: (59, 97), 74: (57, 94), 75: (57, 92),
    77: (57, 90), 78: (59, 94), 79: (57, 92),
    80: (36, 96), 81: (36, 96), 82: (40, 96), 84: (40, 92), 85: (40, 90), 87: (36, 92),
    88: (36, 92), 89: (36, 92), 90: (36, 92), 91: (36, 92), 94: (36, 92),
}  # fmt: skip
"""Lowest and highest idiomatic MIDI pitch of a program (chosen from orchestration tables: Adler,
The Study of Orchestration; wide for synthesizers)."""
