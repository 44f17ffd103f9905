"""Synthetic hums, whistles and sung vowels of known pitch, and noises without a tune.

Input: a random generator and settings. Output: sound at 24 kHz with its pitch in every 10 ms. A
voice is a sum of harmonics with a falling slope under formants (Fant, Acoustic theory of speech
production, 1960), with vibrato, glides between the notes, unsteadiness and breath.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from melisma.values import Notes, Score, TempoMap, Track, Waveform

RATE_HZ = 24_000
TRUTH_RATE_HZ = 100

FORMANTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "/a/": ((730.0, 90.0, 1.0), (1_090.0, 110.0, 0.7), (2_440.0, 160.0, 0.25)),
    "/i/": ((280.0, 60.0, 1.0), (2_250.0, 130.0, 0.3), (3_000.0, 180.0, 0.2)),
    "/m/": ((250.0, 70.0, 1.0), (1_100.0, 200.0, 0.06), (2_200.0, 300.0, 0.03)),
    "/u/": ((310.0, 70.0, 1.0), (800.0, 90.0, 0.3), (2_250.0, 160.0, 0.04)),
}
"""Centre in Hz, width in Hz and gain of each formant."""
RANGES: dict[str, tuple[int, int]] = {"low": (43, 60), "high": (57, 76), "whistle": (79, 103)}
"""Lowest and highest MIDI pitch of a low voice, a high voice and a whistle (to 3.1 kHz)."""
_DRUM_KEYS = (41, 43, 45, 46, 47, 48, 49, 50, 51, 54, 56, 60, 61, 62, 63, 64)
"""Toms, cymbals and hand drums."""


@dataclass(frozen=True, kw_only=True)
class Hum:
    """Sound with its truth."""

    waveform: Waveform
    pitches: np.ndarray
    """Sounding MIDI pitch every 10 ms, float64, nan where none."""
    written: np.ndarray
    """Intended MIDI pitch every 10 ms, whole numbers, nan where none."""


@dataclass(frozen=True, kw_only=True)
class VoiceSettings:
    """The voice of a hum, and how precisely it sings."""

    vowel: str = "/m/"
    """A key of `FORMANTS`, or "whistle"."""
    register: str = "low"
    """A key of `RANGES`."""
    vibrato_cents: float = 0.0
    glide_seconds: float = 0.04
    off_cents: float = 0.0
    """Distance from concert pitch at the beginning."""
    drift_cents: float = 0.0
    """How far the distance moves until the end."""
    unsteady_cents: float = 8.0
    """Standard deviation of the slow error of the voice."""
    noise_db: float | None = None
    """Level of the breath below that of the voice; None for none."""


def random_tune(rng: np.random.Generator, low: int, high: int, seconds: float) -> list[list[float]]:
    """Rows of (start, end, pitch): a walk on a scale, with a rest after each phrase."""
    steps = (
        np.array([0, 2, 4, 5, 7, 9, 11]) if rng.random() < 0.5 else np.array([0, 2, 3, 5, 7, 8, 10])
    )
    ladder = np.concatenate([steps + 12 * octave for octave in range(10)]) + rng.integers(12)
    ladder = ladder[(ladder >= low) & (ladder <= high)]
    place, time = int(rng.integers(len(ladder))), 0.2
    rows: list[list[float]] = []
    pace = rng.uniform(0.22, 0.5)
    while time < seconds - 0.4:
        length = min(pace * float(rng.choice([0.5, 1.0, 1.0, 2.0])), seconds - 0.2 - time)
        rows.append([time, time + max(length, 0.1), float(ladder[place])])
        time += max(length, 0.1) + (pace if rng.random() < 0.15 else 0.0)
        place = int(np.clip(place + rng.choice([-3, -2, -1, -1, 1, 1, 2, 3]), 0, len(ladder) - 1))
    return rows


def hum(
    rng: np.random.Generator,
    voice_settings: VoiceSettings,
    seconds: float = 8.0,
    rows: list[list[float]] | None = None,
) -> Hum:
    """A hummed tune: `rows` of start, end and MIDI pitch, or a random one."""
    rows = random_tune(rng, *RANGES[voice_settings.register], seconds) if rows is None else rows
    count = int(seconds * RATE_HZ)
    time = np.arange(count) / RATE_HZ
    written, loud = np.full(count, np.nan), np.zeros(count)
    for index, (start, end, pitch) in enumerate(rows):
        bound = index + 1 < len(rows) and rows[index + 1][0] <= end + 1e-6 and rng.random() < 0.6
        stop = end if bound else end - min(0.06, 0.3 * (end - start))
        inside = slice(int(start * RATE_HZ), int(stop * RATE_HZ))
        written[inside] = pitch
        loud[inside] = rng.uniform(0.6, 1.0)
    smooth = np.hanning(int(0.05 * RATE_HZ))
    loud = np.convolve(loud, smooth / smooth.sum(), "same") * ~np.isnan(written)
    known = np.flatnonzero(~np.isnan(written))
    held = written[known[np.clip(np.searchsorted(known, np.arange(count)), 0, len(known) - 1)]]
    glide = np.hanning(max(int(voice_settings.glide_seconds * RATE_HZ), 3))
    sung = np.convolve(np.pad(held, len(glide), mode="edge"), glide / glide.sum(), "same")
    sung = sung[len(glide) : len(glide) + count]
    cents = voice_settings.vibrato_cents * np.sin(
        2 * np.pi * rng.uniform(4.8, 6.2) * time + rng.uniform(0, 6)
    )
    cents += voice_settings.unsteady_cents * slow_noise(rng, count, 2.0)
    cents += voice_settings.off_cents + voice_settings.drift_cents * time / seconds
    pitch = sung + cents / 100.0
    voice = (
        _whistled(pitch)
        if voice_settings.vowel == "whistle"
        else _sung(rng, pitch, voice_settings.vowel)
    )
    sound = voice * loud
    if voice_settings.noise_db is not None:
        sound = sound + breath(rng, sound, loud > 0, voice_settings)
    sound = 0.3 * sound / np.abs(sound).max()
    every = np.arange(0, count, RATE_HZ // TRUTH_RATE_HZ)
    audible = loud[every] > 0.02
    return Hum(
        waveform=Waveform(samples=sound[None].astype(np.float32), rate_hz=RATE_HZ),
        pitches=np.where(audible, pitch[every], np.nan),
        written=np.where(audible, written[every], np.nan),
    )


def _sung(rng: np.random.Generator, pitch: np.ndarray, vowel: str) -> np.ndarray:
    hz = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
    phase = 2 * np.pi * np.cumsum(hz * (1 + 0.002 * slow_noise(rng, len(hz), 60.0))) / RATE_HZ
    total = np.zeros(len(hz))
    for harmonic in range(1, 60):
        lines_hz = harmonic * hz
        if lines_hz.min() > 7_000.0:
            break
        gain = sum(
            strength / np.sqrt(1.0 + ((lines_hz - centre) / (width / 1.2)) ** 2)
            for centre, width, strength in FORMANTS[vowel]
        )
        total += (gain + 0.01) * (lines_hz < 7_000) / harmonic * np.sin(harmonic * phase)
    return total


def _whistled(pitch: np.ndarray) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(440.0 * 2.0 ** ((pitch - 69.0) / 12.0)) / RATE_HZ
    return np.sin(phase) + 0.01 * np.sin(2 * phase)


def slow_noise(rng: np.random.Generator, count: int, corner_hz: float) -> np.ndarray:
    """Noise below a frequency, of standard deviation 1."""
    knots = rng.standard_normal(max(int(count / RATE_HZ * 2 * corner_hz), 2) + 2)
    return np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots) * 1.22


def coloured_noise(rng: np.random.Generator, count: int, slope: float) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power `slope`, of unit level."""
    lines = np.fft.rfft(rng.standard_normal(count))
    lines /= np.maximum(np.arange(len(lines)), 20.0 * count / RATE_HZ) ** slope
    noise = np.fft.irfft(lines, count)
    return noise / np.sqrt(np.mean(noise**2))


def breath(
    rng: np.random.Generator, sound: np.ndarray, voiced: np.ndarray, voice_settings: VoiceSettings
) -> np.ndarray:
    """Noise through the formants, `noise_db` below the voice, also during rests."""
    assert voice_settings.noise_db is not None
    noise = coloured_noise(rng, len(sound), 0.3)
    formants = FORMANTS.get(voice_settings.vowel, ((2_000.0, 1_500.0, 1.0),))
    total = 0.3 * noise
    for centre, width, gain in formants:
        pole = np.exp(-np.pi * 2 * width / RATE_HZ)
        angle = 2 * np.pi * centre / RATE_HZ
        total += gain * (1 - pole) * lfilter([1], [1, -2 * pole * np.cos(angle), pole**2], noise)
    level = np.sqrt(np.mean(sound[voiced] ** 2)) * 10 ** (-voice_settings.noise_db / 20)
    return total * level / np.sqrt(np.mean(total**2))


def drum_score(rng: np.random.Generator, seconds: float) -> Score:
    """A random loop on a random kit: kick, snare, cymbals, often toms and hand drums."""
    bpm = float(rng.uniform(70, 170))
    bars = int(np.ceil(seconds * bpm / 240.0))
    beside = rng.choice(_DRUM_KEYS, size=int(rng.integers(0, 6)), replace=False)
    keys = [36, 38, 42, *beside.tolist()]
    rows: list[tuple[float, int]] = []
    for key in keys:
        pattern = np.flatnonzero(rng.random(16) < (0.5 if key == 42 else 0.22)) / 4.0
        rows += [(bar * 4.0 + float(beat), int(key)) for bar in range(bars) for beat in pattern]
    rows = sorted(rows) or [(0.0, 36)]
    notes = Notes(
        start_beats=np.array([row[0] for row in rows]),
        duration_beats=np.full(len(rows), 0.25),
        pitch=np.array([row[1] for row in rows]),
        velocity=rng.integers(60, 120, len(rows)),
    )
    kit = int(rng.choice([0, 8, 16, 24, 25, 32, 40, 48]))
    track = Track(notes=notes, program=kit, is_drum=True)
    return Score(tracks=(track,), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, bpm)))


def tune_score(rows: list[list[float]], program: int) -> Score:
    """A tune for one instrument; a beat is a second."""
    notes = Notes(
        start_beats=np.array([row[0] for row in rows]),
        duration_beats=np.array([row[1] - row[0] for row in rows]),
        pitch=np.array([int(row[2]) for row in rows]),
        velocity=np.full(len(rows), 90),
    )
    track = Track(notes=notes, program=program, is_drum=False)
    return Score(tracks=(track,), tempo=TempoMap(beats=np.zeros(1), bpm=np.full(1, 60.0)))
