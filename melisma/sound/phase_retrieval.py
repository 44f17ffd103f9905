"""Sound from magnitudes alone: two-band spectra whose phases follow from the magnitudes.

A tone's phase need not be transmitted: it advances by the tone's frequency, and that can be read
off the shape of its peak. Peaks of each frame go on from the phase that their line had in the frame
before, and the lines around a peak share its phase (Laroche & Dolson, "Improved phase vocoder
time-scale modification of audio", 1999, section IV.C, identity phase locking). Long windows below
`SPLIT_HZ`, where tones lie close together; short ones above, where attacks matter.

Magnitudes are [batch, frame, line] at 100 frames a second, the low band's lines before the high
band's; sound is [batch, sample] at 24 kHz. Frame n is centred on sample 240 n + 120.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

RATE_HZ = 24_000
HOP_SAMPLES = 240
SPLIT_HZ = 1_500.0
LOW_WINDOW_SAMPLES = 2_048
HIGH_WINDOW_SAMPLES = 768
LOW_LINES = round(SPLIT_HZ * LOW_WINDOW_SAMPLES / RATE_HZ)
"""Lines 0 to 127 of the long window."""
HIGH_FIRST_LINE = round(SPLIT_HZ * HIGH_WINDOW_SAMPLES / RATE_HZ)
HIGH_LINES = HIGH_WINDOW_SAMPLES // 2 + 1 - HIGH_FIRST_LINE
"""Lines 48 to 384 of the short window."""
LINES = LOW_LINES + HIGH_LINES


@functools.lru_cache(maxsize=8)
def _window(samples: int, device: torch.device) -> Tensor:
    return torch.hann_window(samples, device=device)


def magnitudes(sound: Tensor) -> Tensor:
    """Sound [batch, sample] -> magnitudes [batch, sample // 240, line]; a full sine has about 1."""
    bands = []
    for window_samples in (LOW_WINDOW_SAMPLES, HIGH_WINDOW_SAMPLES):
        before = window_samples // 2 - HOP_SAMPLES // 2
        padded = F.pad(sound, (before, window_samples))
        frames = padded.unfold(1, window_samples, HOP_SAMPLES)[:, : sound.shape[1] // HOP_SAMPLES]
        lines = torch.fft.rfft(frames * _window(window_samples, sound.device))
        power = lines.real.square() + lines.imag.square()
        bands.append((power + 1e-12).sqrt() / (window_samples / 4))
    return torch.cat([bands[0][..., :LOW_LINES], bands[1][..., HIGH_FIRST_LINE:]], dim=-1)


@dataclass(frozen=True, kw_only=True)
class PhaseState:
    """Where a synthesis stream stands."""

    phase: Tensor
    """Phase of every line in the last frame, [batch, line]."""
    low_tail: Tensor
    high_tail: Tensor
    """Samples of both bands that later frames still add to."""


def initial_state(batch: int, device: torch.device | str = "cpu") -> PhaseState:
    """Silence before the beginning."""
    return PhaseState(
        phase=torch.zeros(batch, LINES, device=device),
        low_tail=torch.zeros(batch, (_hops(LOW_WINDOW_SAMPLES) - 1) * HOP_SAMPLES, device=device),
        high_tail=torch.zeros(batch, (_hops(HIGH_WINDOW_SAMPLES) - 1) * HOP_SAMPLES, device=device),
    )


def _wait(window_samples: int) -> int:
    """Samples that a band's frames wait, so that the centres of both bands' frames meet."""
    return (LOW_WINDOW_SAMPLES - window_samples) // 2


def _hops(window_samples: int) -> int:
    """Hops that a frame of a band reaches over, the wait included."""
    return -(-(window_samples + _wait(window_samples)) // HOP_SAMPLES)


DELAY_SAMPLES = LOW_WINDOW_SAMPLES // 2 - HOP_SAMPLES // 2
"""The sound that leaves `step` is so much later than the centres of its frames."""


def step(block: Tensor, state: PhaseState) -> tuple[Tensor, PhaseState]:
    """Magnitudes [batch, frame, line] -> sound [batch, 240 * frame], `DELAY_SAMPLES` late."""
    propagate = _compiled_phases if _runs_compiled(block) else _phases
    turned, phase = propagate(block, state.phase)
    # The sign of every other line turns a piece by half its length, so that its middle comes first.
    signs = 1 - 2 * (_lines(block.device)[0] % 2)
    lines = torch.polar(block * signs, turned)
    low, low_tail = _overlap_add(
        F.pad(lines[..., :LOW_LINES], (0, LOW_WINDOW_SAMPLES // 2 + 1 - LOW_LINES)),
        LOW_WINDOW_SAMPLES,
        state.low_tail,
    )
    high, high_tail = _overlap_add(
        F.pad(lines[..., LOW_LINES:], (HIGH_FIRST_LINE, 0)), HIGH_WINDOW_SAMPLES, state.high_tail
    )
    return low + high, PhaseState(phase=phase, low_tail=low_tail, high_tail=high_tail)


def _runs_compiled(values: Tensor) -> bool:
    """Whether the loops of `phase_loops.py` may do it: on a processor, without gradients."""
    cpu = values.device.type == "cpu"
    return cpu and values.dtype == torch.float32 and not values.requires_grad


def _compiled_phases(block: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """(Phases of every frame and line, those of the last frame), on a processor."""
    from melisma.sound.phase_loops import propagate_phases

    logs = torch.log(block + 1e-7).contiguous()
    turned, last = torch.empty_like(logs), phase.detach().clone()
    number, _, hops = _lines(block.device)
    propagate_phases(
        logs.numpy(), number.double().numpy(), hops.double().numpy(), LOW_LINES, last.numpy(),
        turned.numpy(),
    )  # fmt: skip
    return turned, last


def _phases(block: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """The same by PyTorch, on any device."""
    peak, advance = _peaks(block)
    phases = []
    for n in range(block.shape[1]):
        phase = torch.remainder(phase.gather(1, peak[:, n]) + advance[:, n], 2 * math.pi)
        phases.append(phase)
    return torch.stack(phases, dim=1), phase


@functools.lru_cache(maxsize=8)
def _lines(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of every line: its number in its band's spectrum, whether it is of the low band, and the
    cycles by which a line of number 1 advances in a hop."""
    line = torch.arange(LINES, device=device)
    low = line < LOW_LINES
    number = torch.where(low, line, line - LOW_LINES + HIGH_FIRST_LINE)
    window = torch.where(low, LOW_WINDOW_SAMPLES, HIGH_WINDOW_SAMPLES)
    return number, low, HOP_SAMPLES / window.double()


def _peaks(block: Tensor) -> tuple[Tensor, Tensor]:
    """For every line (its peak's line, the phase that the peak advances by in one hop)."""
    logs = torch.log(block + 1e-7)
    left, right = F.pad(logs, (1, 0))[..., :-1], F.pad(logs, (0, 1))[..., 1:]
    is_peak = (logs >= left) & (logs > right)
    curve = (left - 2 * logs + right).clamp(max=-1e-3)
    # A parabola through a peak of the logarithm finds a tone to a few per cent of a line.
    offset = (0.5 * (left - right) / curve).clamp(-0.5, 0.5)
    device = block.device
    line = torch.arange(LINES, device=device)
    number, low, hops = _lines(device)
    advance = (2 * math.pi * (number + offset) * hops).to(block.dtype)
    before = torch.where(is_peak, line, -10_000).cummax(dim=-1).values
    after = torch.where(is_peak, line, 20_000).flip(-1).cummin(dim=-1).values.flip(-1)
    nearest = torch.where(line - before <= after - line, before, after)
    # Bands do not share peaks; where a band has none, a line is its own peak.
    same_band = (nearest < LOW_LINES) == low
    nearest = torch.where(same_band & (nearest >= 0) & (nearest < LINES), nearest, line)
    return nearest, advance.gather(-1, nearest)


def _overlap_add(lines: Tensor, window_samples: int, tail: Tensor) -> tuple[Tensor, Tensor]:
    """Spectra [batch, frame, line] -> (sound of the first hops, tail); both bands equally late."""
    # Analysis scaled by 4 / window; a squared Hann window at this hop sums to 3/8 window / hop.
    gain = (window_samples / 4) / (0.375 * window_samples / HOP_SAMPLES)
    window = _window(window_samples, lines.device) * gain
    pieces = torch.fft.irfft(lines, n=window_samples)
    wait, hops = _wait(window_samples), _hops(window_samples)
    batch, count, _ = pieces.shape
    total = pieces.new_zeros(batch, (count + hops - 1) * HOP_SAMPLES)
    total[:, : tail.shape[1]] = tail
    if _runs_compiled(pieces):
        from melisma.sound.phase_loops import overlap_add

        overlap_add(pieces.numpy(), window.numpy(), HOP_SAMPLES, wait, total.numpy())
    else:
        padded = F.pad(pieces * window, (wait, hops * HOP_SAMPLES - window_samples - wait))
        parts = padded.reshape(batch, count, hops, HOP_SAMPLES)
        blocks = total.view(batch, -1, HOP_SAMPLES)
        for place in range(hops):
            blocks[:, place : place + count] += parts[:, :, place]
    return total[:, : count * HOP_SAMPLES], total[:, count * HOP_SAMPLES :]
