"""The layers of EnCodec as streams: any number of rows enters, those that are certain leave.

EnCodec (2210.13438), section 3.1: strided convolutions with residual units, a two-layer LSTM at
the frame rate, the mirror image in the decoder. As published for music the convolutions are not
causal: each looks as far ahead as back. That hinders no stream. A layer here holds the rows that
a later output still needs, and says an output as soon as all it depends on has come; so nothing
is computed twice, whatever the size of the blocks, and the pieces said are those of the whole.
Padding (a reflection, as published) is put only where the sound truly begins and ends.

Rows are [batch, row, width], one row an instant at the layer's own rate. Each convolution is a
sum of matrix products, one a tap, which for every size of EnCodec was as fast as a convolution
or faster; a change of rate by `ratio` has kernels of twice that length (section 3.1) and so is
two taps over rows that are cut or joined by `ratio`.

State: `LayerState`. `step(block, state, last)`: with `last` the end of the sound follows `block`.
Weights are buffers in the layout that is fast; `published` names the tensors of the published
layout with their shapes, `load` takes them.
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
    """What one layer carries from block to block."""

    tensors: tuple[Tensor, ...] = ()
    """Rows that later outputs need, or an LSTM's hidden and cell states."""
    begun: bool = False
    """Whether the beginning of the sound is behind us."""


class Layer(nn.Module, ABC):
    """A layer that streams."""

    def published(self) -> dict[str, tuple[int, ...]]:
        """Shapes of this layer's own published tensors (weight norm folded), by name."""
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the tensors that `published` names."""

    @abstractmethod
    def initial_state(self, batch: int) -> LayerState:
        """Before the first row."""

    @abstractmethod
    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """[batch, row, width] -> the rows that are now certain, and the new state."""

    def lateness(self, rows: int) -> int:
        """Rows by which the outputs trail where the inputs trail by `rows`, at their own rates."""
        return rows


def _sum_of_taps(rows: Tensor, taps: Tensor, bias: Tensor, hop: int = 1) -> Tensor:
    """Rows [batch, row, in], taps [tap, in, out] -> [batch, row - (tap - 1) * hop, out].

    All batches in one product: the rows in which two of them meet are computed and dropped.
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
    """Pads [batch, row, width] along the rows as the published model does: where a piece is too
    short to be reflected, silence is put behind it first and cut off afterwards."""
    if left == right == 0:
        return rows
    missing = max(0, max(left, right) - rows.shape[1] + 1) if mode == "reflect" else 0
    inner = F.pad(rows.transpose(1, 2), (0, missing))
    outer = F.pad(inner, (left, right), mode=mode).transpose(1, 2)
    return outer[:, : outer.shape[1] - missing]


class Convolution(Layer):
    """Convolution with padding: `stride` 1 and any kernel, or a kernel of twice the stride."""

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
        """Takes `conv.weight` and `conv.bias`."""
        self.taps.copy_(tensors["conv.weight"].permute(2, 1, 0).reshape(self.taps.shape))
        self.bias.copy_(tensors["conv.bias"])

    def initial_state(self, batch: int) -> LayerState:
        """No rows yet."""
        width_in = self.taps.shape[1] // self.stride
        return LayerState(tensors=(self.taps.new_empty(batch, 0, width_in),))

    def lateness(self, rows: int) -> int:
        """The rows that it looks ahead come on top (for a stride of 1)."""
        return rows + self.right

    def window(
        self, block: Tensor, state: LayerState, last: bool
    ) -> tuple[Tensor, int, LayerState]:
        """Held and new rows, padded at the ends: (rows, how many outputs they make, new state)."""
        rows = torch.cat([state.tensors[0].to(block.dtype), block], dim=1)
        # Rows without which the padding of the beginning, or that of an early end, is uncertain.
        needed = self.right + self.stride - 1
        needed = max(self.left, needed) if self.padding == "reflect" else needed
        if rows.shape[1] == 0 or (not state.begun and not last and rows.shape[1] <= needed):
            return rows[:, :0], 0, LayerState(tensors=(rows,))
        left = 0 if state.begun else self.left
        right = 0
        if last:  # filled up to whole strides, so that no sample is left out
            before = self.left if state.begun else 0
            right = self.right + (before - rows.shape[1]) % self.stride
        rows = _padded(rows, left, right, self.padding)
        # With a stride one row more is held than the next output needs: the reflection of the
        # end may reach back that far.
        spare = 1 if self.stride > 1 and not last else 0
        span = self.dilation * (self.kernel_rows - 1)
        outputs = max(0, (rows.shape[1] - span - 1 - spare) // self.stride + 1)
        held = rows[:, outputs * self.stride :]
        # A copy, so that a whole block is not kept alive by the few rows of it that are held.
        return rows, outputs, LayerState(tensors=(held.clone(),), begun=True)

    def apply_to(self, rows: Tensor, outputs: int) -> Tensor:
        """The first `outputs` outputs over the rows of `window`."""
        if self.stride == 1:
            return _sum_of_taps(rows, self.taps, self.bias, self.dilation)[:, :outputs]
        batch, _, width = rows.shape
        joined = outputs + 1 if outputs else 0
        rows = rows[:, : joined * self.stride].reshape(batch, joined, self.stride * width)
        return _sum_of_taps(rows, self.taps, self.bias)

    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """[batch, row, in] -> [batch, row, out]; with `activate` through an ELU first."""
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
        """Takes `conv.weight` and `conv.bias`."""
        new, old = tensors["conv.weight"].permute(0, 2, 1).flatten(1).chunk(2, dim=1)
        self.taps.copy_(torch.stack([old, new]))
        self.bias.copy_(tensors["conv.bias"].repeat(self.ratio))

    def initial_state(self, batch: int) -> LayerState:
        """Silence before the first row."""
        return LayerState(tensors=(self.taps.new_zeros(batch, 1, self.taps.shape[1]),))

    def lateness(self, rows: int) -> int:
        """The rows that are cut off the beginning come on top."""
        return rows * self.ratio + self.left

    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """[batch, row, in] -> [batch, ratio * row, out], `left` rows late."""
        if block.shape[1] == 0 and not (last and state.begun):
            return block.new_empty(len(block), 0, self.width_out), state
        rows = torch.cat([state.tensors[0].to(block.dtype), F.elu(block)], dim=1)
        held = LayerState(tensors=(rows[:, -1:].clone(),), begun=True)
        if last:
            rows = F.pad(rows, (0, 0, 0, 1))
        out = _sum_of_taps(rows, self.taps, self.bias)
        out = out.reshape(len(block), -1, self.width_out)
        stop = out.shape[1] - self.right if last else out.shape[1]
        return out[:, 0 if state.begun else self.left : stop], held


class Residual(Layer):
    """ELU, convolution, ELU, pointwise convolution; what came in is added."""

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

    def lateness(self, rows: int) -> int:
        """That of the wide convolution."""
        return self._convolution("1").lateness(rows)

    def step(self, block: Tensor, state: LayerState, last: bool) -> tuple[Tensor, LayerState]:
        """[batch, row, width] -> as wide, later by the look-ahead."""
        wide, pointwise = self._convolution("1"), self._convolution("3")
        # The rows are held before their ELU, which commutes with every padding and is cheap.
        rows, outputs, state = wide.window(block, state, last)
        hidden = wide.apply_to(F.elu(rows), outputs)
        hidden = pointwise.apply_to(F.elu(hidden), outputs)
        entered = rows[:, wide.left : wide.left + outputs]
        if self.shortcut is not None:
            entered = self.shortcut.apply_to(entered, outputs)
        return hidden + entered, state


class Recurrence(Layer):
    """An LSTM over the rows; what came in is added. State: hidden and cell, a pair a layer."""

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
        """Takes the LSTM's weights; not after `pack`."""
        assert self.lstm is not None
        self.lstm.load_state_dict({n.removeprefix("lstm."): t for n, t in tensors.items()})

    def pack(self) -> None:
        """Gives the weights the layout of oneDNN's kernel, once instead of at every call.

        The sums are the same; at the 32 kHz sizes (width 1,024) blocks of 25 frames take a third
        of the time, because most of such a call goes into that change of layout. Afterwards the
        layer runs on the CPU only and has no plain weights. A torch without that kernel keeps
        them and loses nothing but time. (The two operations are torch's own, what its compiler
        calls for a frozen model; they are not documented, so their failure is provided for.)
        """
        if self.lstm is None or not torch.backends.mkldnn.is_available():
            return
        plain, packed = dict(self.lstm.named_parameters()), []
        trial = torch.zeros(1, 1, self.width, dtype=self.dtype)
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
        except (AttributeError, RuntimeError):  # another torch, or a kernel that it lacks here
            self.packed = []
            return
        self.lstm = None

    def initial_state(self, batch: int) -> LayerState:
        """Zeros."""
        device = "cpu" if self.lstm is None else next(self.lstm.parameters()).device
        zeros = torch.zeros(1, batch, self.width, dtype=self.dtype, device=device)
        return LayerState(tensors=(zeros,) * (2 * self.layers), begun=True)

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
        last: bool,  # noqa: ARG002 - the end is no news to what looks back only
    ) -> tuple[Tensor, LayerState]:
        """[batch, row, width] -> the same shape; never late."""
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
        return block + out.transpose(0, 1), LayerState(tensors=tensors, begun=True)


class Stack(nn.Module):
    """Layers one after another, under their published indices."""

    def __init__(self, layers: Mapping[int, Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(index): layer for index, layer in layers.items()})

    def all(self) -> Iterable[Layer]:
        """The layers in their order."""
        for layer in self.layers.values():
            assert isinstance(layer, Layer)
            yield layer

    def initial_state(self, batch: int) -> tuple[LayerState, ...]:
        """One state a layer."""
        return tuple(layer.initial_state(batch) for layer in self.all())

    def step(
        self, block: Tensor, state: tuple[LayerState, ...], last: bool
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """[batch, row, width] through all layers: what is certain of the result, and the states."""
        states = []
        for layer, one in zip(self.all(), state, strict=True):
            block, new = layer.step(block, one, last)
            states.append(new)
        return block, tuple(states)
