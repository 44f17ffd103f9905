"""Activation functions for compiled kernels: exp, GELU and SiLU of one float32.

They consist of operations that LLVM can vectorise, so a loop over an array runs on whole vectors.
"""

from __future__ import annotations

import numpy as np

from melisma.simd.dispatch import compiled
from melisma.simd.vectors import float_of_bits, fma


@compiled
def exponential(x):
    """exp(x) of a float32, to 2 units in the last place; x is clamped to [-87, 88]."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    whole = np.floor(fma(x, np.float32(1.44269504), np.float32(0.5)))
    rest = fma(whole, np.float32(2.12194440e-4), fma(whole, np.float32(-0.693359375), x))
    # The polynomial of Cephes' expf.
    y = fma(np.float32(1.9875691500e-4), rest, np.float32(1.3981999507e-3))
    y = fma(y, rest, np.float32(8.3334519073e-3))
    y = fma(y, rest, np.float32(4.1665795894e-2))
    y = fma(y, rest, np.float32(1.6666665459e-1))
    y = fma(y, rest, np.float32(5.0000001201e-1))
    y = fma(y, rest * rest, rest + np.float32(1.0))
    return y * float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@compiled
def gelu(x):
    """GELU: x times the normal distribution function of x (1606.08415), exact to 2e-7."""
    z = abs(x) * np.float32(0.70710678)
    # erf by Abramowitz and Stegun, 7.1.26.
    t = np.float32(1.0) / fma(np.float32(0.3275911), z, np.float32(1.0))
    y = fma(np.float32(1.061405429), t, np.float32(-1.453152027))
    y = fma(y, t, np.float32(1.421413741))
    y = fma(y, t, np.float32(-0.284496736))
    y = fma(y, t, np.float32(0.254829592))
    tail = y * t * exponential(-z * z)
    positive = np.float32(1.0) - np.float32(0.5) * tail
    negative = np.float32(0.5) * tail
    return x * (positive if x >= np.float32(0.0) else negative)


@compiled
def silu(x):
    """SiLU: x times the logistic function of x (1606.08415, section 2)."""
    return x / (np.float32(1.0) + exponential(-x))
