"""Sizes of the engine's buffers, without torch: estimates of memory count with them."""

from __future__ import annotations

PREFILL_ROWS = 64
"""Positions of a prefix that are read in side by side (prefill)."""
NOISE_STEPS = 128
"""Steps whose noise is generated at once."""
CONDITION_FRAMES = 1_500
"""Frames whose conditioning is computed at once (chosen: a minute), so that memory does not grow
with the duration."""
