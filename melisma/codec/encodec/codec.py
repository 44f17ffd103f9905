"""Interface of a published EnCodec: loading, stereo, waveforms and token grids.

`load_published` reads the tensors of a `transformers` checkpoint; `EncodecCodec` is the codec
with its rates, its vocabulary and its fingerprint. Stereo is MusicGen's (2306.05284, appendix on
stereo): left and right are encoded by the same mono codec, and their levels are interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melisma.codec.encodec.model import Encodec, EncodecSettings
from melisma.codec.encodec.streaming import Layer, LayerState
from melisma.files.checkpoint import fingerprint_of
from melisma.values.errors import MelismaError
from melisma.values.tokens import TokenGrid
from melisma.values.waveform import Waveform

_SPELLINGS = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}
_TRAINING_STATE = (".codebook.cluster_size", ".codebook.embed_avg", ".codebook.inited")
"""Moving averages of the quantizer's training, which inference does not use."""


def interleave(left: Tensor, right: Tensor) -> Tensor:
    """Tokens of left and right, [batch, level, frame] each -> [batch, 2 * level, frame]."""
    if left.shape != right.shape or left.ndim != 3:
        raise MelismaError(
            "left and right are [batch, level, frame] of one shape, "
            f"not {list(left.shape)} and {list(right.shape)}"
        )
    return torch.stack([left, right], dim=2).flatten(1, 2)


def deinterleave(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `interleave`: left is levels 0, 2, 4, ..., right is levels 1, 3, 5, ..."""
    if tokens.ndim != 3 or tokens.shape[1] % 2:
        raise MelismaError(
            f"stereo tokens are [batch, an even number of levels, frame], not {list(tokens.shape)}"
        )
    return tokens[:, ::2], tokens[:, 1::2]


def _some(names: list[str]) -> str:
    """The first few names, and their number."""
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''} ({len(names)} in all)"


def _own_tensors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The codec's tensors without prefix and training state, weight norm under uniform names."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix) and not name.endswith(_TRAINING_STATE):
            own = name.removeprefix(prefix)
            for spelling, plain in _SPELLINGS.items():
                own = own.replace(spelling, plain)
            found[own] = tensor
    return found


def _fold(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Folds weight norm (1602.07868, equation 2) into plain weights: direction times length."""
    folded = {}
    for name, tensor in tensors.items():
        lengths = tensors.get(name.removesuffix("_v") + "_g")
        if name.endswith(".weight_v") and lengths is not None:
            direction = tensor.float()
            fits = direction.ndim == 3 and lengths.shape == (len(direction), 1, 1)
            if not fits:
                raise MelismaError(
                    f"{name} is {list(tensor.shape)} and its lengths are {list(lengths.shape)}: "
                    "they belong to different layers"
                )
            norm = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
            folded[name.removesuffix("_v")] = direction * (lengths.float() / norm)
        elif not (name.endswith(".weight_g") and name.removesuffix("_g") + "_v" in tensors):
            folded[name] = tensor.float()
    return folded


def load_published(network: Encodec, tensors: Mapping[str, Tensor], *, prefix: str = "") -> None:
    """Loads the tensors of a `transformers` EnCodec into a network.

    Args:
        network: Network to fill.
        tensors: Tensors under their published names, of any floating-point dtype, with weight norm
            under either of torch's names or already folded.
        prefix: Prefix of the codec's names, as "audio_encoder." in MusicGen's checkpoints; tensors
            without it are ignored.

    Raises:
        MelismaError: Tensors are missing, of another shape, or unknown.
    """
    found = _fold(_own_tensors(tensors, prefix))
    layers, books = _expect_published(network, found, prefix)
    for name, layer in layers.items():
        layer.load({own: found[f"{name}.{own}"] for own in layer.published()})
    for level, book in enumerate(books):
        network.codes[level] = found[book]


def _expect_published(
    network: Encodec, found: Mapping[str, Tensor], prefix: str
) -> tuple[dict[str, Layer], list[str]]:
    """The layers of a network, of any device, by name, and the names of its codebooks; an error as
    that of `load_published` if the tensors are not those of the network."""
    layers = {n: one for n, one in network.named_modules() if isinstance(one, Layer)}
    expected = {f"{n}.{own}": s for n, one in layers.items() for own, s in one.published().items()}
    books = [f"quantizer.layers.{level}.codebook.embed" for level in range(len(network.codes))]
    expected |= dict.fromkeys(books, tuple(network.codes.shape[1:]))
    missing = [prefix + name for name in expected if name not in found]
    if missing:
        raise MelismaError(f"these EnCodec weights lack {_some(missing)}: fetch them again")
    unfit = [
        f"{prefix}{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if tuple(found[name].shape) != shape
    ]
    if unfit:
        raise MelismaError(
            f"these EnCodec weights do not fit their settings: {_some(unfit)}; "
            "take the settings and the weights from one place"
        )
    unknown = sorted(prefix + name for name in found if name not in expected)
    if unknown:
        raise MelismaError(
            f"these EnCodec weights hold what the settings do not ask for: {_some(unknown)}; "
            "take the settings and the weights from one place"
        )
    return layers, books


class EncodecCodec:
    """An EnCodec with published weights: waveforms <-> token grids, whole or streaming.

    Token tensors are [batch, level, frame], audio tensors [batch, channel, sample]. Two channels
    with a mono network are MusicGen's stereo: twice the levels, those of left and right
    interleaved, both encoded by the one network.
    """

    def __init__(
        self, network: Encodec, fingerprint: str, *, channels: int = 1, device: str = "cpu"
    ) -> None:
        """Wraps a network.

        Args:
            network: The network, with weights.
            fingerprint: Fingerprint of what determines its tokens.
            channels: Channels of the audio: the network's, or 2 with a mono network.
            device: Device to run on.

        Raises:
            MelismaError: The network cannot encode that number of channels.
        """
        own = network.settings.audio_channels
        if channels != own and (own, channels) != (1, 2):
            raise MelismaError(
                f"a codec of {own} channels codes {'1 or 2' if own == 1 else own} channels, "
                f"not {channels}"
            )
        self.network = network.eval().to(device)
        self.fingerprint = fingerprint
        self.channels = channels
        self.device = device
        self.interleaved = channels != own
        if torch.device(device).type == "cpu":
            network.pack()

    @classmethod
    def from_published(
        cls,
        config: Any,
        tensors: Mapping[str, Tensor],
        *,
        prefix: str = "",
        channels: int | None = None,
        precision: str = "float32",
        device: str = "cpu",
    ) -> EncodecCodec:
        """Builds a codec from the settings and tensors of a `transformers` EnCodec.

        The fingerprint covers all but the decoder's weights, as published: neither the precision
        nor the naming of weight norm changes it.

        Args:
            config: Settings, as in config.json.
            tensors: Tensors under their published names.
            prefix: As in `load_published`.
            channels: Channels of the audio; None: those of the network.
            precision: Precision of the decoder, as in `Encodec`.
            device: Device to run on.

        Raises:
            MelismaError: Settings, tensors or channels do not fit.
        """
        settings = EncodecSettings.from_config(config)
        # Damaged sizes must allocate nothing.
        try:
            with torch.device("meta"):
                shapes = Encodec(settings, precision=precision)
        except (ArithmeticError, RuntimeError, TypeError) as error:
            raise MelismaError("the settings of this EnCodec make no network") from error
        _expect_published(shapes, _fold(_own_tensors(tensors, prefix)), prefix)
        network = Encodec(settings, precision=precision)
        load_published(network, tensors, prefix=prefix)
        channels = settings.audio_channels if channels is None else channels
        own = _own_tensors(tensors, prefix)
        # Not of the folded weights: their last digits differ between CPUs.
        deciding = {name: one for name, one in own.items() if not name.startswith("decoder.")}
        fingerprint = fingerprint_of("encodec", asdict(settings) | {"channels": channels}, deciding)
        return cls(network, fingerprint, channels=channels, device=device)

    @property
    def settings(self) -> EncodecSettings:
        """The network's sizes."""
        return self.network.settings

    @property
    def rate_hz(self) -> int:
        """Samples per second of each channel."""
        return self.settings.sampling_rate

    @property
    def frame_rate_hz(self) -> float:
        """Frames of tokens per second."""
        return self.settings.frame_rate_hz

    @property
    def levels(self) -> int:
        """Levels of a token grid; those of left and right together."""
        return self.settings.levels * (2 if self.interleaved else 1)

    @property
    def vocabulary(self) -> int:
        """Codebook size of each level."""
        return self.settings.codebook_size

    @property
    def lookahead_seconds(self) -> float:
        """Delay of a decoding stream."""
        return self.network.lookahead_samples / self.rate_hz

    @torch.no_grad()
    def encode_sound(self, sound: Tensor) -> Tensor:
        """Encodes audio [batch, channel, sample] to tokens [batch, level, frame].

        Raises:
            MelismaError: Another shape.
        """
        if sound.ndim != 3 or sound.shape[1] != self.channels:
            raise MelismaError(
                f"sound to encode is [batch, {self.channels}, sample], not {list(sound.shape)}"
            )
        if not self.interleaved:
            return self.network.encode(sound.to(self.device))
        # Left and right of all items, stacked along the batch: [channel * batch, 1, sample].
        stacked = torch.cat([sound[:, :1], sound[:, 1:]])
        left, right = self.network.encode(stacked.to(self.device)).chunk(2)
        return interleave(left, right)

    def encode(self, waveform: Waveform) -> TokenGrid:
        """Encodes a waveform at the codec's sample rate; an incomplete last frame counts.

        A mono codec encodes the mean of the channels; a stereo one encodes mono on both channels.

        Raises:
            MelismaError: Another sample rate, or no samples.
        """
        if waveform.rate_hz != self.rate_hz:
            raise MelismaError(f"the codec encodes {self.rate_hz} Hz, not {waveform.rate_hz}")
        if waveform.samples.shape[1] == 0:
            raise MelismaError("there is no sound to encode")
        samples = waveform.samples if self.channels == 2 else waveform.mono[None]
        samples = np.array(np.broadcast_to(samples, (self.channels, samples.shape[1])))
        sound = torch.from_numpy(samples)[None]
        return TokenGrid(
            tokens=self.encode_sound(sound)[0].cpu().numpy(),
            vocabulary=self.vocabulary,
            frame_rate_hz=self.frame_rate_hz,
            fingerprint=self.fingerprint,
        )

    def _to_network(self, tokens: Tensor) -> Tensor:
        """Tokens in the network's layout: left and right stacked along the batch."""
        if tokens.ndim != 3 or tokens.shape[1] != self.levels:
            raise MelismaError(
                f"the codec decodes tokens of {self.levels} levels, [batch, level, frame], "
                f"not {list(tokens.shape)}"
            )
        tokens = tokens.to(self.device)
        return torch.cat(deinterleave(tokens)) if self.interleaved else tokens

    def _from_network(self, sound: Tensor) -> Tensor:
        """The network's audio with left and right as channels."""
        return torch.cat(sound.chunk(2), dim=1) if self.interleaved else sound

    def initial_state(self, batch: int = 1) -> tuple[LayerState, ...]:
        """State of a decoding stream before its first block."""
        return self.network.initial_state(batch * (2 if self.interleaved else 1))

    def step(
        self, tokens: Tensor, state: tuple[LayerState, ...]
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """Decodes the next block of a stream.

        The output is delayed by `lookahead_seconds`: the first blocks return that much less audio
        than their tokens cover, `finish` returns the rest.

        Args:
            tokens: [batch, level, frame].
            state: State after the previous block.

        Returns:
            (audio float32 [batch, channel, sample], new state).
        """
        sound, state = self.network.step(self._to_network(tokens), state)
        return self._from_network(sound), state

    def finish(self, state: tuple[LayerState, ...]) -> Tensor:
        """Returns the rest of a stream, [batch, channel, sample]."""
        return self._from_network(self.network.finish(state))

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Decodes tokens [batch, level, frame] to audio float32 [batch, channel, sample]."""
        return self._from_network(self.network.decode_tokens(self._to_network(tokens)))

    def decode_blocks(self, tokens: Tensor) -> Iterator[Tensor]:
        """As `decode_tokens`, block by block: memory does not grow with the duration."""
        for sound in self.network.decode_blocks(self._to_network(tokens)):
            yield self._from_network(sound)

    def decode(self, grid: TokenGrid) -> Waveform:
        """Decodes a token grid.

        Raises:
            MelismaError: Another codec encoded the grid, or its shape does not fit.
        """
        blocks = [block.samples for block in self.decode_stream(grid)]
        return Waveform(samples=np.concatenate(blocks, axis=1), rate_hz=self.rate_hz)

    def decode_stream(self, grid: TokenGrid) -> Iterator[Waveform]:
        """As `decode`, block by block."""
        if grid.fingerprint != self.fingerprint:
            raise MelismaError(
                f"these tokens were made by the codec {grid.fingerprint}, this is "
                f"{self.fingerprint}: decode them with the codec that made them"
            )
        if grid.tokens.shape[0] != self.levels or grid.tokens.shape[1] == 0:
            raise MelismaError(
                f"the codec decodes {self.levels} levels of one frame or more, "
                f"not {list(grid.tokens.shape)}"
            )
        if int(grid.tokens.max()) >= self.vocabulary:
            raise MelismaError(
                f"these tokens are of a vocabulary of {grid.vocabulary}, the codec's has "
                f"{self.vocabulary} entries"
            )
        return (
            Waveform(samples=sound[0].cpu().numpy(), rate_hz=self.rate_hz)
            for sound in self.decode_blocks(torch.from_numpy(grid.tokens)[None])
            if sound.shape[2]
        )
