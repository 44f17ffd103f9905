"""Spectrogram plots: a waveform above its log-mel spectrogram, with axes in seconds and hertz.

Input: a `Waveform`. Output: the data of the plot, or a PNG file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from melisma.analysis.plots.titles import title_line
from melisma.files import write_bytes
from melisma.sound.spectra import log_mel
from melisma.values import Waveform
from melisma.values.errors import MelismaError

MEL_BINS = 128
_WINDOW_SECONDS = 0.085
"""Chosen: resolves neighbouring notes from about middle C upwards, and still a drum's attack."""
_MAX_COLUMNS = 1_600
"""Maximum number of frames: the plot has no more pixels."""
_DYNAMIC_RANGE_DB = 80.0
_SIZE_INCHES = (10.7, 5.4)
_DOTS_PER_INCH = 150
_LONGEST_TITLE = 100
_TICKS_HZ = (100, 300, 600, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True, kw_only=True)
class SpectrogramData:
    """Data of a waveform and spectrogram plot."""

    column_seconds: np.ndarray
    """float64 [column], centre of each spectrogram column in seconds."""
    lowest: np.ndarray
    """float32 [column], minimum amplitude in each column."""
    highest: np.ndarray
    """float32 [column], maximum amplitude in each column."""
    mel_db: np.ndarray
    """float32 [bin, column], dB relative to the loudest bin, at least -80."""
    bin_hz: np.ndarray
    """float64 [bin], centre frequency of each mel bin."""
    seconds: float
    """Duration of the waveform."""


def spectrogram_data(waveform: Waveform) -> SpectrogramData:
    """Amplitude envelope and log-mel spectrogram on one time axis of at most 1600 columns.

    Raises:
        MelismaError: for a waveform of length 0.
    """
    sound = waveform.mono
    if len(sound) == 0:
        raise MelismaError("a spectrogram needs sound, but its length is 0")
    rate_hz = waveform.rate_hz
    window = 1 << round(np.log2(_WINDOW_SECONDS * rate_hz))
    hop = max(window // 8, -(-len(sound) // _MAX_COLUMNS))
    columns = -(-len(sound) // hop)
    padded = np.pad(sound, (0, columns * hop - len(sound)))
    mel = log_mel(
        torch.from_numpy(padded)[None],
        rate_hz=rate_hz,
        window_samples=window,
        hop_samples=hop,
        bins=MEL_BINS,
    )[0].numpy()
    mel_db = mel * (20.0 / np.log(10.0))
    mel_db = np.maximum(mel_db - mel_db.max(), -_DYNAMIC_RANGE_DB)
    blocks = padded.reshape(columns, hop)
    return SpectrogramData(
        column_seconds=(np.arange(columns) + 0.5) * hop / rate_hz,
        lowest=blocks.min(axis=1),
        highest=blocks.max(axis=1),
        mel_db=mel_db.astype(np.float32),
        bin_hz=_mel_to_hz(_nyquist_mel(rate_hz) * np.arange(1, MEL_BINS + 1) / (MEL_BINS + 1)),
        seconds=waveform.seconds,
    )


def plot_sound(waveform: Waveform, path: Path, title: str) -> None:
    """Writes a PNG file of the waveform above its log-mel spectrogram, atomically.

    Raises:
        MelismaError: for a waveform of length 0.
        OSError: if the file cannot be written.
    """
    data = spectrogram_data(waveform)
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    above.set_title(title_line(title, _LONGEST_TITLE), fontsize=9)
    _plot_waveform(above, data)
    _plot_spectrogram(below, data, waveform.rate_hz)
    figure.colorbar(below.images[0], ax=below, label="level (dB)", pad=0.01)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DOTS_PER_INCH)
    write_bytes(Path(path), stream.getvalue())


def _plot_waveform(axes: Axes, data: SpectrogramData) -> None:
    axes.fill_between(
        data.column_seconds, data.lowest, data.highest, linewidth=0.4, color="#205080"
    )
    axes.axhline(0, color="black", linewidth=0.4)
    axes.set_ylim(-1, 1)
    axes.set_ylabel("amplitude")


def _plot_spectrogram(axes: Axes, data: SpectrogramData, rate_hz: int) -> None:
    top = _nyquist_mel(rate_hz)
    axes.imshow(
        data.mel_db,
        origin="lower",
        aspect="auto",
        extent=(0.0, data.seconds, 0.0, top),
        cmap="magma",
        vmin=-_DYNAMIC_RANGE_DB,
        vmax=0.0,
        interpolation="nearest",
    )
    ticks = [hz for hz in _TICKS_HZ if hz <= rate_hz / 2]
    axes.set_yticks([float(_hz_to_mel(hz)) for hz in ticks], [f"{hz}" for hz in ticks])
    axes.set_xlim(0.0, data.seconds)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("frequency (Hz, mel scale)")


def _hz_to_mel(hz: float) -> float:
    """The HTK mel scale, as in `sound/spectra.py`."""
    return 2595.0 * float(np.log10(1.0 + hz / 700.0))


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _nyquist_mel(rate_hz: int) -> float:
    return _hz_to_mel(rate_hz / 2)
