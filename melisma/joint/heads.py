"""Equivariant heads for musical key and tempo.

Transposing a piece rotates its chroma, and changing its tempo shifts its tempogram (lags are
log-spaced). These heads are convolutions along those axes, so that what is learned in one key or
at one tempo generalizes to all.

Inputs: blocks of the summary (`summary.py`). Outputs: logits of `TONALITIES` and of the tempo bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.joint.summary import ONSET_BANDS, REGISTERS_HZ, TEMPO_LAGS
from melisma.values.attributes import TEMPO_BINS

PITCH_CLASSES = 12


class TonalityHead(nn.Module):
    """Chroma [batch, 36] -> logits [batch, 24]; rotating the input rotates the output."""

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv1d(len(REGISTERS_HZ), width, PITCH_CLASSES)
        self.second = nn.Conv1d(width, width, PITCH_CLASSES)
        self.out = nn.Conv1d(width, 2, 1)

    def forward(self, chroma: Tensor) -> Tensor:
        """Logits of the keys; the first 12 are major, the others minor."""
        hidden = (chroma.unflatten(1, (-1, PITCH_CLASSES)) * PITCH_CLASSES).clamp(max=6.0)
        hidden = F.gelu(self.first(_around(hidden)))
        hidden = F.dropout(F.gelu(self.second(_around(hidden))), 0.2, self.training)
        return self.out(hidden).flatten(1)


def _around(rows: Tensor) -> Tensor:
    """[..., 12] -> [..., 23], wrapped around, for a kernel that spans the octave."""
    return F.pad(rows, (0, PITCH_CLASSES - 1), mode="circular")


class TempoHead(nn.Module):
    """Tempogram [batch, 192] -> logits [batch, 48]; approximately shift-equivariant.

    Only a bias of each bin and the edges depend on absolute tempo, which decides between a tempo
    and its double.
    """

    SPAN = 95
    """Kernel size in lags: 1.2 octaves to each side, so that it covers double and half tempo."""

    def __init__(self, *, width: int = 48) -> None:
        super().__init__()
        assert TEMPO_LAGS == 2 * TEMPO_BINS
        self.first = nn.Conv1d(ONSET_BANDS, width, self.SPAN, padding=self.SPAN // 2)
        self.place = nn.Parameter(torch.zeros(width, TEMPO_LAGS, dtype=torch.float32))
        self.second = nn.Conv1d(width, width, 2, stride=2)
        self.out = nn.Conv1d(width, 1, 1)
        self.bias = nn.Parameter(torch.zeros(TEMPO_BINS, dtype=torch.float32))

    def forward(self, tempogram: Tensor) -> Tensor:
        """Logits of the tempo bins; a bin covers two lags."""
        hidden = F.gelu(self.first(tempogram.unflatten(1, (ONSET_BANDS, -1))) + self.place)
        hidden = F.dropout(F.gelu(self.second(hidden)), 0.2, self.training)
        return self.out(hidden).flatten(1) + self.bias
