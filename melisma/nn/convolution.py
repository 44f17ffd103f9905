"""Streaming causal ConvNeXt blocks and changes of frame rate.

All tensors are [batch, frame, width], so that pointwise layers are plain matrix products.
ConvNeXt: Liu et al., "A ConvNet for the 2020s" (2201.03545), section 2; for waveform synthesis
from an inverse STFT: Siuzdak, "Vocos" (2306.00814), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.nn.linear import Linear


class CausalDepthwise(nn.Module):
    """Depthwise convolution over the current and `kernel_frames - 1` previous frames.

    State: the previous frames [batch, kernel_frames - 1, width].
    """

    def __init__(self, *, width: int, kernel_frames: int) -> None:
        super().__init__()
        self.width = width
        self.kernel_frames = kernel_frames
        self.weight = nn.Parameter(torch.empty(width, 1, kernel_frames, dtype=torch.float32))
        nn.init.normal_(self.weight, std=kernel_frames**-0.5)
        self.bias = nn.Parameter(torch.zeros(width, dtype=torch.float32))

    def initial_state(self, batch: int) -> Tensor:
        """Zeros before the first frame."""
        return self.weight.new_zeros(batch, self.kernel_frames - 1, self.width)

    def step(self, block: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Convolves a block of any number of frames.

        Args:
            block: [batch, frame, width].
            state: See the class.

        Returns:
            (A block of the same shape, the new state.)
        """
        joined = torch.cat([state.to(block.dtype), block], dim=1)
        out = F.conv1d(
            joined.transpose(1, 2),
            self.weight.to(block.dtype),
            self.bias.to(block.dtype),
            groups=self.width,
        )
        return out.transpose(1, 2), joined[:, joined.shape[1] - self.kernel_frames + 1 :]


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block: depthwise convolution, norm, pointwise expansion, GELU, pointwise projection,
    scaled residual."""

    def __init__(
        self, *, width: int, kernel_frames: int = 7, expansion: int = 4, scale: float = 0.05
    ) -> None:
        super().__init__()
        self.depthwise = CausalDepthwise(width=width, kernel_frames=kernel_frames)
        self.norm = nn.LayerNorm(width)
        self.expand = Linear(width, expansion * width)
        self.contract = Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale, dtype=torch.float32))

    def initial_state(self, batch: int) -> Tensor:
        """State of the depthwise convolution."""
        return self.depthwise.initial_state(batch)

    def step(self, block: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frame, width] -> the same shape, and the new state."""
        mixed, state = self.depthwise.step(block, state)
        mixed = self.contract(self.expand.gelu(self.norm(mixed)))
        return block + self.scale.to(mixed.dtype) * mixed, state


class ConvNeXtStack(nn.Module):
    """ConvNeXt blocks of one width in sequence. State: a tuple with the state of each block."""

    def __init__(
        self, *, width: int, blocks: int, kernel_frames: int = 7, expansion: int = 4
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width=width, kernel_frames=kernel_frames, expansion=expansion)
            for _ in range(blocks)
        )

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """Zeros before the first frame, for every block."""
        states = []
        for block in self.blocks:
            assert isinstance(block, ConvNeXtBlock)
            states.append(block.initial_state(batch))
        return tuple(states)

    def step(self, block: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[batch, frame, width] -> the same shape, and the new states."""
        states = []
        for layer, one in zip(self.blocks, state, strict=True):
            assert isinstance(layer, ConvNeXtBlock)
            block, new = layer.step(block, one)
            states.append(new)
        return block, tuple(states)


def merge_frames(frames: Tensor, factor: int) -> Tensor:
    """Concatenates every `factor` neighbouring frames: [batch, frame, width] -> [batch,
    frame / factor, factor * width]."""
    batch, count, width = frames.shape
    return frames.reshape(batch, count // factor, factor * width)


def split_frames(frames: Tensor, factor: int) -> Tensor:
    """Splits each frame into `factor` frames: the inverse of `merge_frames`."""
    batch, count, width = frames.shape
    return frames.reshape(batch, count * factor, width // factor)
