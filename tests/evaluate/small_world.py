"""A small world to judge: two kinds of piece, an untrained judge, a quick embedding."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from melisma.evaluate.assess import Judges, RunInfo, SoundToJudge
from melisma.evaluate.models.embeddings import Embedding
from melisma.evaluate.models.judge import Judge, JudgeNetwork, JudgeSettings
from melisma.evaluate.references.audio import Reference, TruePiece, measure_reference
from melisma.files.audio.reading import DecodedAudio
from melisma.values import Facts, Waveform

RATE_HZ = 24_000
PIECES = 16


class Bands(Embedding):
    """Six numbers: levels of bands. Quick, where what an embedding says does not matter."""

    kind = "Bands"

    def __init__(self) -> None:
        self.name, self.rate_hz, self.width = "bands", 24_000, 6
        self.window_seconds, self.hop_seconds = 1.0, 0.5

    @property
    def weights_fingerprint(self) -> str:
        return "six bands"

    def embed_windows(self, windows: np.ndarray) -> np.ndarray:
        spectrum = np.abs(np.fft.rfft(windows, axis=1))[:, 100:3_000]
        bands = spectrum[:, : spectrum.shape[1] // 6 * 6].reshape(len(windows), 6, -1)
        return np.log(bands.mean(axis=2) + 1e-3).astype(np.float32)


def piece(number: int, *, seconds: float = 2.0, rate_hz: int = RATE_HZ) -> Waveform:
    """A tune of decaying tones: tempo, pitches and brightness are the number's own."""
    rng = np.random.default_rng(number)
    sound = np.zeros(round(seconds * rate_hz))
    step = rng.uniform(0.2, 0.6)
    for onset in np.arange(0.0, seconds - 0.1, step):
        pitch = 220.0 * 2.0 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12.0)
        time = np.arange(round(min(0.5, seconds - onset) * rate_hz)) / rate_hz
        tone = sum(np.sin(2 * np.pi * pitch * h * time) / h for h in range(1, 3 + number % 5))
        begin = round(onset * rate_hz)
        part = np.exp(-time / 0.15) * np.asarray(tone)
        sound[begin : begin + len(time)] += part[: len(sound) - begin]
    samples = (0.4 * sound / np.abs(sound).max()).astype(np.float32)
    return Waveform(samples=samples[None], rate_hz=rate_hz)


@cache
def judge() -> Judge:
    """Untrained: its answers mean nothing, but are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Judge(JudgeNetwork(JudgeSettings(moment=16, trunk=16, pulse=8, words=8)))


def dulled(sound: Waveform) -> Waveform:
    """In the place of a codec: a little noise and less treble."""
    rng = np.random.default_rng(0)
    smooth = np.convolve(sound.samples[0], [0.25, 0.5, 0.25], mode="same")
    samples = smooth + 1e-3 * rng.normal(size=len(smooth))
    return Waveform(samples=samples.astype(np.float32)[None], rate_hz=sound.rate_hz)


@cache
def reference() -> Reference:
    """Pieces 0 to 15, each a work of its own."""
    embedding = Bands()
    true = [
        TruePiece(
            sound=piece(number),
            words=f"tune number {number} for piano",
            facts=Facts(tempo_bpm=100.0, tonality="C major", lead="piano"),
            group=f"work {number}",
        )
        for number in range(PIECES)
    ]
    return measure_reference(
        "small tunes", true, dulled, judge(), [embedding],
        codec_fingerprint="none", levels=4,
        codec_values=lambda one, _: {"codec_log_mel": one.sound.seconds},
    )  # fmt: skip


def judges(with_reference: bool = True) -> Judges:
    """Everything that judges here."""
    return Judges(
        judge=judge(),
        embeddings=(Bands(),),
        reference=reference() if with_reference else None,
        scores=None,
        nearest_clip=None,
        nearest_tune=None,
    )


def given(number: int, sound: Callable[[], Waveform], *, in_reference: bool = True) -> SoundToJudge:
    """A piece for the prompt of the reference's piece of that number."""
    known = reference()
    return SoundToJudge(
        name=f"{number:03d}.flac",
        prompt=known.prompts[number],
        requested=known.requested()[number] if in_reference else None,
        reference_index=number if in_reference else None,
        read=lambda: DecodedAudio(waveform=sound(), remarks=()),
    )


RUN = RunInfo(
    title="Small tunes",
    label="outputs",
    judged={"model": "none"},
    prompts="a list",
    command="by hand",
    seconds=2.0,
)
