"""Streaming layers of EnCodec: each takes any number of rows and emits those that are final.

EnCodec (2210.13438), section 3.1: strided convolutions with residual units, a two-layer LSTM at
the frame rate, mirrored in the decoder. As published for music the convolutions are not causal:
each looks as far ahead as back. They can still be streamed: a layer buffers the rows that a later
output needs, and emits an output as soon as all its inputs have arrived; so nothing is computed
twice, whatever the block size, and the result equals that of the whole. Padding (a reflection, as
published) is applied only at the beginning and end of the audio.

Rows are [batch, row, width], one row per time step at the layer's own rate. Each convolution is a
sum of matrix products, one per tap, which for every size of EnCodec was as fast as a convolution
or faster; a change of rate by `ratio` has kernels of twice that length (section 3.1) and so is
two taps over rows that are split or joined by `ratio`.

State: `LayerState`. In `step(block, state, last)`, `last` says that the audio ends after `block`.
Weights are buffers in the layout of the computation; `published` names the tensors of the published
layout with their shapes, `load` copies them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class LayerState:
    """State of one layer between blocks."""

    tensors: tuple[Tensor, ...] = ()
    """Buffered rows that later outputs need, or an LSTM's hidden and cell states."""
    started: bool = False
    """Whether the layer has processed the beginning of the audio."""


class Layer(nn.Module, ABC):
    """A streaming layer."""

    def published(self) -> dict[str, tuple[int, ...]]:
        """Shapes of this layer's own published tensors (weight norm folded), by name."""
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies the tensors that `published` names."""

    @abstractmethod
    def initial_state(self, batch: int) -> LayerState:
        """State before the first row."""

    @abstractmethod
    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """Processes the next block of a stream.

        Args:
            block: [batch, row, width].
            state: State after the previous block.
            last: Whether the stream ends after this block.

        Returns:
            (output rows that are final, new state).
        """

    def delay(self, rows: int) -> int:
        """Delay of the outputs in rows where the inputs are delayed by `rows`, at their rates."""
        return rows


def _sum_of_taps(rows: Tensor, taps: Tensor, bias: Tensor, hop: int = 1) -> Tensor:
    """Rows [batch, row, in], taps [tap, in, out] -> [batch, row - (tap - 1) * hop, out].

    All items of the batch in one product: rows that span two items are computed and dropped.
    """
    batch, count, width = rows.shape
    span = (len(taps) - 1) * hop
    if batch == 0 or count <= span:
        return rows.new_empty(batch, 0, taps.shape[2], dtype=taps.dtype)
    flat = rows.to(taps.dtype).reshape(batch * count, width)
    used = len(flat) - span
    out = flat.new_empty(batch * count, taps.shape[2])
    torch.addmm(bias, flat[:used], taps[0], out=out[:used])
    for index in range(1, len(taps)):
        out[:used].addmm_(flat[index * hop : index * hop + used], taps[index])
    return out.view(batch, count, -1)[:, : count - span]


def _padded(rows: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pads [batch, row, width] along the rows as the published model does: where the input is too
    short for the reflection, zeros are appended first and removed afterwards."""
    if left == right == 0:
        return rows
    missing = max(0, max(left, right) - rows.shape[1] + 1) if mode == "reflect" else 0
    inner = F.pad(rows.transpose(1, 2), (0, missing))
    outer = F.pad(inner, (left, right), mode=mode).transpose(1, 2)
    return outer[:, : outer.shape[1] - missing]


class Convolution(Layer):
    """Padded convolution: `stride` 1 and any kernel, or a kernel of twice the stride."""

    taps: Tensor
    bias: Tensor

    def __init__(
        self,
        *,
        width_in: int,
        width_out: int,
        kernel_rows: int,
        causal: bool,
        padding: str,
        dtype: torch.dtype = torch.float32,
        stride: int = 1,
        dilation: int = 1,
        activate: bool = False,
    ) -> None:
        super().__init__()
        assert stride == 1 or (kernel_rows == 2 * stride and dilation == 1)
        self.kernel_rows, self.stride, self.dilation = kernel_rows, stride, dilation
        self.padding, self.activate = padding, activate
        total = (kernel_rows - 1) * dilation + 1 - stride
        self.right = 0 if causal else total // 2
        self.left = total - self.right
        taps = (kernel_rows, width_in) if stride == 1 else (2, stride * width_in)
        self.register_buffer("taps", torch.zeros(*taps, width_out, dtype=dtype))
        self.register_buffer("bias", torch.zeros(width_out, dtype=dtype))

    def published(self) -> dict[str, tuple[int, ...]]:
        """`conv.weight` [out, in, tap] and `conv.bias`."""
        width_in, width_out = self.taps.shape[1] // self.stride, len(self.bias)
        return {"conv.weight": (width_out, width_in, self.kernel_rows), "conv.bias": (width_out,)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies `conv.weight` and `conv.bias`."""
        self.taps.copy_(tensors["conv.weight"].permute(2, 1, 0).reshape(self.taps.shape))
        self.bias.copy_(tensors["conv.bias"])

    def initial_state(self, batch: int) -> LayerState:
        """No buffered rows."""
        width_in = self.taps.shape[1] // self.stride
        return LayerState(tensors=(self.taps.new_empty(batch, 0, width_in),))

    def delay(self, rows: int) -> int:
        """Adds the lookahead of the convolution (for a stride of 1)."""
        return rows + self.right

    def window(
        self, block: Tensor, state: LayerState, last: bool
    ) -> tuple[Tensor, int, LayerState]:
        """Buffered and new rows, padded at the ends: (rows, number of outputs, new state)."""
        rows = torch.cat([state.tensors[0].to(block.dtype), block], dim=1)
        # Rows without which the padding at the beginning, or at an early end, is not yet known.
        needed = self.right + self.stride - 1
        needed = max(self.left, needed) if self.padding == "reflect" else needed
        if rows.shape[1] == 0 or (not state.started and not last and rows.shape[1] <= needed):
            return rows[:, :0], 0, LayerState(tensors=(rows,))
        left = 0 if state.started else self.left
        right = 0
        if last:  # padded to whole strides, so that no sample is dropped
            before = self.left if state.started else 0
            right = self.right + (before - rows.shape[1]) % self.stride
        rows = _padded(rows, left, right, self.padding)
        # With a stride, one row more is buffered than the next output needs: the reflection at
        # the end may reach back that far.
        spare = 1 if self.stride > 1 and not last else 0
        span = self.dilation * (self.kernel_rows - 1)
        outputs = max(0, (rows.shape[1] - span - 1 - spare) // self.stride + 1)
        buffered = rows[:, outputs * self.stride :]
        # A copy, so that the few buffered rows do not keep the memory of the whole block.
        return rows, outputs, LayerState(tensors=(buffered.clone(),), started=True)

    def apply_to(self, rows: Tensor, outputs: int) -> Tensor:
        """Computes the first `outputs` outputs over the rows of `window`."""
        if self.stride == 1:
            return _sum_of_taps(rows, self.taps, self.bias, self.dilation)[:, :outputs]
        batch, _, width = rows.shape
        joined = outputs + 1 if outputs else 0
        rows = rows[:, : joined * self.stride].reshape(batch, joined, self.stride * width)
        return _sum_of_taps(rows, self.taps, self.bias)

    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """[batch, row, in] -> [batch, row, out]; with `activate` an ELU is applied first."""
        block = F.elu(block) if self.activate else block
        rows, outputs, state = self.window(block, state, last)
        return self.apply_to(rows, outputs), state


class Upsampling(Layer):
    """ELU, then a transposed convolution with a kernel of `2 * ratio` and a stride of `ratio`."""

    taps: Tensor
    bias: Tensor

    def __init__(
        self,
        *,
        width_in: int,
        width_out: int,
        ratio: int,
        causal: bool,
        trim_right_ratio: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.ratio, self.width_out = ratio, width_out
        self.right = math.ceil(ratio * trim_right_ratio) if causal else ratio // 2
        self.left = ratio - self.right
        self.register_buffer("taps", torch.zeros(2, width_in, ratio * width_out, dtype=dtype))
        self.register_buffer("bias", torch.zeros(ratio * width_out, dtype=dtype))

    def published(self) -> dict[str, tuple[int, ...]]:
        """`conv.weight` [in, out, tap] and `conv.bias`."""
        shape = (self.taps.shape[1], self.width_out, 2 * self.ratio)
        return {"conv.weight": shape, "conv.bias": (self.width_out,)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies `conv.weight` and `conv.bias`."""
        new, old = tensors["conv.weight"].permute(0, 2, 1).flatten(1).chunk(2, dim=1)
        self.taps.copy_(torch.stack([old, new]))
        self.bias.copy_(tensors["conv.bias"].repeat(self.ratio))

    def initial_state(self, batch: int) -> LayerState:
        """A row of zeros before the first row."""
        return LayerState(tensors=(self.taps.new_zeros(batch, 1, self.taps.shape[1]),))

    def delay(self, rows: int) -> int:
        """Adds the rows that are trimmed from the beginning."""
        return rows * self.ratio + self.left

    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """[batch, row, in] -> [batch, ratio * row, out], delayed by `left` rows."""
        if block.shape[1] == 0 and not (last and state.started):
            return block.new_empty(len(block), 0, self.width_out), state
        rows = torch.cat([state.tensors[0].to(block.dtype), F.elu(block)], dim=1)
        new_state = LayerState(tensors=(rows[:, -1:].clone(),), started=True)
        if last:
            rows = F.pad(rows, (0, 0, 0, 1))
        out = _sum_of_taps(rows, self.taps, self.bias)
        out = out.reshape(len(block), -1, self.width_out)
        stop = out.shape[1] - self.right if last else out.shape[1]
        return out[:, 0 if state.started else self.left : stop], new_state


class Residual(Layer):
    """Residual unit: ELU, convolution, ELU, pointwise convolution, and a skip connection."""

    def __init__(self, wide: Convolution, pointwise: Convolution, shortcut: Convolution | None):
        super().__init__()
        # The keys are the published indices: 0 and 2 are the ELUs.
        self.block = nn.ModuleDict({"1": wide, "3": pointwise})
        self.shortcut = shortcut

    def _convolution(self, key: str) -> Convolution:
        found = self.block[key]
        assert isinstance(found, Convolution)
        return found

    def initial_state(self, batch: int) -> LayerState:
        """That of the wide convolution."""
        return self._convolution("1").initial_state(batch)

    def delay(self, rows: int) -> int:
        """That of the wide convolution."""
        return self._convolution("1").delay(rows)

    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """[batch, row, width] -> the same width, delayed by the lookahead."""
        wide, pointwise = self._convolution("1"), self._convolution("3")
        # Rows are buffered before the ELU, which commutes with every padding and is cheap.
        rows, outputs, state = wide.window(block, state, last)
        hidden = wide.apply_to(F.elu(rows), outputs)
        hidden = pointwise.apply_to(F.elu(hidden), outputs)
        skip = rows[:, wide.left : wide.left + outputs]
        if self.shortcut is not None:
            skip = self.shortcut.apply_to(skip, outputs)
        return hidden + skip, state


class Recurrence(Layer):
    """LSTM over the rows with a skip connection. State: a pair (hidden, cell) per layer."""

    def __init__(self, *, width: int, layers: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.width, self.layers, self.dtype = width, layers, dtype
        self.lstm: nn.LSTM | None = nn.LSTM(width, width, layers).to(dtype).requires_grad_(False)
        self.packed: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def published(self) -> dict[str, tuple[int, ...]]:
        """`lstm.weight_ih_l0` and so on, as torch names them."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index in range(self.layers):
            for name in ("ih", "hh"):
                shapes[f"lstm.weight_{name}_l{index}"] = (4 * self.width, self.width)
                shapes[f"lstm.bias_{name}_l{index}"] = (4 * self.width,)
        return shapes

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies the LSTM's weights; not after `pack`."""
        assert self.lstm is not None
        self.lstm.load_state_dict({n.removeprefix("lstm."): t for n, t in tensors.items()})

    def pack(self) -> None:
        """Converts the weights to the layout of oneDNN's kernel, once instead of at every call.

        The results are the same; at the 32 kHz sizes (width 1,024) blocks of 25 frames take a third
        of the time, because that conversion dominates such a call. Afterwards the layer runs on the
        CPU only and has no plain weights. A torch without that kernel keeps them and is merely
        slower. (The two operations are those that torch's compiler calls for a frozen model; they
        are not documented, so their failure is handled.)
        """
        if self.lstm is None or not torch.backends.mkldnn.is_available():
            return
        plain, packed = dict(self.lstm.named_parameters()), []
        trial = torch.zeros(1, 1, self.width, dtype=self.dtype, device="cpu")
        try:
            for index in range(self.layers):
                matrices = [plain[f"weight_{name}_l{index}"].detach() for name in ("ih", "hh")]
                biases = [plain[f"bias_{name}_l{index}"].detach() for name in ("ih", "hh")]
                first, second = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
                    *matrices, self.width, False, True, False, None
                )
                packed.append((first, second, *biases))
            self.packed = packed
            self._packed_step(trial, (trial,) * (2 * self.layers))
        except (AttributeError, RuntimeError):  # another torch version, or no such kernel here
            self.packed = []
            return
        self.lstm = None

    def initial_state(self, batch: int) -> LayerState:
        """Zeros."""
        device = "cpu" if self.lstm is None else next(self.lstm.parameters()).device
        zeros = torch.zeros(1, batch, self.width, dtype=self.dtype, device=device)
        return LayerState(tensors=(zeros,) * (2 * self.layers), started=True)

    def _packed_step(
        self, rows: Tensor, tensors: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[row, batch, width] -> the same, and the new hidden and cell states."""
        states: list[Tensor] = []
        for index, weights in enumerate(self.packed):
            hidden, cell = tensors[2 * index : 2 * index + 2]
            # Not reversed, LSTM (mode 2), one layer with biases, one direction, rows first.
            rows, hidden, cell, _ = torch.ops.aten.mkldnn_rnn_layer(
                rows, *weights, hidden, cell, False, [], 2, self.width, 1, True, False, False, False
            )
            states += [hidden, cell]
        return rows, tuple(states)

    def step(
        self,
        block: Tensor,
        state: LayerState,
        last: bool,  # noqa: ARG002 - the layer is causal
    ) -> tuple[Tensor, LayerState]:
        """[batch, row, width] -> the same shape, without delay."""
        if block.shape[1] == 0:
            return block, state
        rows = block.to(self.dtype).transpose(0, 1).contiguous()
        if self.lstm is None:
            out, tensors = self._packed_step(rows, state.tensors)
        else:
            hidden, cell = (torch.cat(state.tensors[start::2]) for start in (0, 1))
            out, (hidden, cell) = self.lstm(rows, (hidden, cell))
            pairs = zip(hidden.split(1), cell.split(1), strict=True)
            tensors = tuple(tensor for pair in pairs for tensor in pair)
        return block + out.transpose(0, 1), LayerState(tensors=tensors, started=True)


class Stack(nn.Module):
    """Sequence of layers under their published indices."""

    def __init__(self, layers: Mapping[int, Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(index): layer for index, layer in layers.items()})

    def all(self) -> Iterable[Layer]:
        """The layers in their order."""
        for layer in self.layers.values():
            assert isinstance(layer, Layer)
            yield layer

    def initial_state(self, batch: int) -> tuple[LayerState, ...]:
        """One state per layer."""
        return tuple(layer.initial_state(batch) for layer in self.all())

    def step(
        self, block: Tensor, state: tuple[LayerState, ...], last: bool
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """[batch, row, width] through all layers: (output rows that are final, new states)."""
        states = []
        for layer, one in zip(self.all(), state, strict=True):
            block, new = layer.step(block, one, last)
            states.append(new)
        return block, tuple(states)
