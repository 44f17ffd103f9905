"""Phase retrieval: synthesis of sound from two-band magnitude spectra, in streaming blocks.

The phase of a tone need not be transmitted: it advances with the frequency, which the shape of the
spectral peak reveals. Each peak continues from the phase of its bin in the previous frame, and the
bins around a peak share its phase (identity phase locking: Laroche & Dolson, "Improved phase
vocoder time-scale modification of audio", 1999, section IV.C). Windows are long below `SPLIT_HZ`,
where tones are close together, and short above, where attacks matter.

Magnitudes are [batch, frame, bin] at 100 frames per second, the bins of the low band before those
of the high band; sound is [batch, sample] at 24 kHz. Frame n is centred on sample 240 n + 120.
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
"""Bins 0 to 127 of the long window."""
HIGH_FIRST_LINE = round(SPLIT_HZ * HIGH_WINDOW_SAMPLES / RATE_HZ)
HIGH_LINES = HIGH_WINDOW_SAMPLES // 2 + 1 - HIGH_FIRST_LINE
"""Bins 48 to 384 of the short window."""
LINES = LOW_LINES + HIGH_LINES


@functools.lru_cache(maxsize=8)
def _window(samples: int, device: torch.device) -> Tensor:
    return torch.hann_window(samples, device=device, dtype=torch.float32)


def magnitudes(sound: Tensor) -> Tensor:
    """Two-band magnitude spectra.

    Args:
        sound: [batch, sample] at `RATE_HZ`.

    Returns:
        [batch, sample // 240, bin]; a sine of amplitude 1 has a peak of about 1.
    """
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
    """State of a synthesis stream."""

    phase: Tensor
    """Phase of every bin in the last frame, [batch, bin]."""
    low_tail: Tensor
    high_tail: Tensor
    """Overlap of both bands, to which later frames are added, [batch, sample]."""


def initial_state(batch: int, device: torch.device | str = "cpu") -> PhaseState:
    """The state before the first frame: silence."""
    return PhaseState(
        phase=torch.zeros(batch, LINES, device=device, dtype=torch.float32),
        low_tail=torch.zeros(
            batch, (_hops(LOW_WINDOW_SAMPLES) - 1) * HOP_SAMPLES, device=device, dtype=torch.float32
        ),
        high_tail=torch.zeros(
            batch,
            (_hops(HIGH_WINDOW_SAMPLES) - 1) * HOP_SAMPLES,
            device=device,
            dtype=torch.float32,
        ),
    )


def _delay(window_samples: int) -> int:
    """Delay of a band's frames in samples: it aligns the centres of both bands' frames."""
    return (LOW_WINDOW_SAMPLES - window_samples) // 2


def _hops(window_samples: int) -> int:
    """Hops that a frame of a band spans, its delay included."""
    return -(-(window_samples + _delay(window_samples)) // HOP_SAMPLES)


DELAY_SAMPLES = LOW_WINDOW_SAMPLES // 2 - HOP_SAMPLES // 2
"""Latency: delay of the output of `step` relative to the centres of its frames."""


def step(block: Tensor, state: PhaseState) -> tuple[Tensor, PhaseState]:
    """Synthesizes a block.

    Args:
        block: Magnitudes [batch, frame, bin].
        state: See `initial_state`.

    Returns:
        (Sound [batch, 240 * frame], delayed by `DELAY_SAMPLES`; the new state.)
    """
    propagate = _compiled_phases if _runs_compiled(block) else _phases
    phases, phase = propagate(block, state.phase)
    # Negating every other bin rotates a frame by half its length, so that its centre comes first.
    signs = 1 - 2 * (_lines(block.device)[0] % 2)
    lines = torch.polar(block * signs, phases)
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
    """Whether the loops of `phase_loops.py` can be used: on the CPU, without gradients."""
    cpu = values.device.type == "cpu"
    return cpu and values.dtype == torch.float32 and not values.requires_grad


def _compiled_phases(block: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """(Phases [batch, frame, bin], those of the last frame [batch, bin]), on the CPU."""
    from melisma.sound.phase_loops import propagate_phases

    logs = torch.log(block + 1e-7).contiguous()
    phases, last = torch.empty_like(logs), phase.detach().clone()
    number, _, hops = _lines(block.device)
    propagate_phases(
        logs.numpy(), number.double().numpy(), hops.double().numpy(), LOW_LINES, last.numpy(),
        phases.numpy(),
    )  # fmt: skip
    return phases, last


def _phases(block: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """The same in PyTorch, on any device."""
    peak, advance = _peaks(block)
    phases = []
    for n in range(block.shape[1]):
        phase = torch.remainder(phase.gather(1, peak[:, n]) + advance[:, n], 2 * math.pi)
        phases.append(phase)
    return torch.stack(phases, dim=1), phase


@functools.lru_cache(maxsize=8)
def _lines(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every bin: its index in its band's spectrum, whether it is in the low band, and the
    cycles by which bin 1 of that spectrum advances in a hop."""
    line = torch.arange(LINES, device=device, dtype=torch.long)
    low = line < LOW_LINES
    number = torch.where(low, line, line - LOW_LINES + HIGH_FIRST_LINE)
    window = torch.where(low, LOW_WINDOW_SAMPLES, HIGH_WINDOW_SAMPLES)
    return number, low, HOP_SAMPLES / window.double()


def _peaks(block: Tensor) -> tuple[Tensor, Tensor]:
    """For every bin (bin of the nearest peak, phase by which that peak advances in a hop)."""
    logs = torch.log(block + 1e-7)
    left, right = F.pad(logs, (1, 0))[..., :-1], F.pad(logs, (0, 1))[..., 1:]
    is_peak = (logs >= left) & (logs > right)
    curve = (left - 2 * logs + right).clamp(max=-1e-3)
    # Parabolic interpolation of the log magnitude: accurate to a few per cent of a bin.
    offset = (0.5 * (left - right) / curve).clamp(-0.5, 0.5)
    device = block.device
    line = torch.arange(LINES, device=device, dtype=torch.long)
    number, low, hops = _lines(device)
    advance = (2 * math.pi * (number + offset) * hops).to(block.dtype)
    before = torch.where(is_peak, line, -10_000).cummax(dim=-1).values
    after = torch.where(is_peak, line, 20_000).flip(-1).cummin(dim=-1).values.flip(-1)
    nearest = torch.where(line - before <= after - line, before, after)
    # Bands do not share peaks; in a band without any, a bin is its own peak.
    same_band = (nearest < LOW_LINES) == low
    nearest = torch.where(same_band & (nearest >= 0) & (nearest < LINES), nearest, line)
    return nearest, advance.gather(-1, nearest)


def _overlap_add(lines: Tensor, window_samples: int, tail: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse FFT and overlap-add of one band: spectra [batch, frame, bin] -> (sound [batch, 240 *
    frame], overlap with later frames); both bands have the same delay."""
    # Analysis scales by 4 / window; squared Hann windows at this hop sum to 3/8 window / hop.
    gain = (window_samples / 4) / (0.375 * window_samples / HOP_SAMPLES)
    window = _window(window_samples, lines.device) * gain
    frames = torch.fft.irfft(lines, n=window_samples)
    delay, hops = _delay(window_samples), _hops(window_samples)
    batch, count, _ = frames.shape
    total = frames.new_zeros(batch, (count + hops - 1) * HOP_SAMPLES)
    total[:, : tail.shape[1]] = tail
    if _runs_compiled(frames):
        from melisma.sound.phase_loops import overlap_add

        overlap_add(frames.numpy(), window.numpy(), HOP_SAMPLES, delay, total.numpy())
    else:
        padded = F.pad(frames * window, (delay, hops * HOP_SAMPLES - window_samples - delay))
        parts = padded.reshape(batch, count, hops, HOP_SAMPLES)
        blocks = total.view(batch, -1, HOP_SAMPLES)
        for hop in range(hops):
            blocks[:, hop : hop + count] += parts[:, :, hop]
    return total[:, : count * HOP_SAMPLES], total[:, count * HOP_SAMPLES :]
