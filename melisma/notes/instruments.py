"""Short English names of the 128 General MIDI programs (General MIDI 1, 1991)."""

from __future__ import annotations

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
    """The plain name of a General MIDI program 0-127; every drum kit is "drums"."""
    if is_drum:
        return "drums"
    if not 0 <= program <= 127:
        raise ValueError(f"a General MIDI program lies between 0 and 127, not {program}")
    return INSTRUMENTS[program]
