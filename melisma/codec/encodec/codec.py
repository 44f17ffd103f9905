"""A published EnCodec as the other floors use it: loading, stereo, waveforms and token grids.

`load_published` reads the tensors of a `transformers` checkpoint; `EncodecCodec` is the codec
with its rates, its vocabulary and its fingerprint. Stereo is MusicGen's (2306.05284, appendix on
stereo): left and right go through the same mono codec, and their levels take turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melisma.codec.encodec.model import Encodec, EncodecSettings
from melisma.codec.encodec.streaming import Layer, LayerState
from melisma.files.checkpoint import fingerprint_of
from melisma.values.tokens import TokenGrid
from melisma.values.waveform import Waveform

_SPELLINGS = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}
_TRAINING_STATE = (".codebook.cluster_size", ".codebook.embed_avg", ".codebook.inited")
"""What the quantizer's moving averages are made of: decides nothing any more."""


def interleave(left: Tensor, right: Tensor) -> Tensor:
    """Tokens of left and right, [batch, level, frame] each -> [batch, 2 * level, frame]."""
    if left.shape != right.shape or left.ndim != 3:
        raise ValueError(
            "left and right are [batch, level, frame] of one shape, "
            f"not {list(left.shape)} and {list(right.shape)}"
        )
    return torch.stack([left, right], dim=2).flatten(1, 2)


def deinterleave(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `interleave`: left is levels 0, 2, 4, ..., right is levels 1, 3, 5, ..."""
    if tokens.ndim != 3 or tokens.shape[1] % 2:
        raise ValueError(
            f"stereo tokens are [batch, an even number of levels, frame], not {list(tokens.shape)}"
        )
    return tokens[:, ::2], tokens[:, 1::2]


def _some(names: list[str]) -> str:
    """The first few names, and how many there are."""
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''} ({len(names)} in all)"


def _own_tensors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The codec's tensors without the prefix, weight norm in one spelling, no training state."""
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix) and not name.endswith(_TRAINING_STATE):
            own = name.removeprefix(prefix)
            for spelling, plain in _SPELLINGS.items():
                own = own.replace(spelling, plain)
            found[own] = tensor
    return found


def _fold(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight norm (1602.07868, equation 2) becomes plain weights: direction times length."""
    folded = {}
    for name, tensor in tensors.items():
        lengths = tensors.get(name.removesuffix("_v") + "_g")
        if name.endswith(".weight_v") and lengths is not None:
            direction = tensor.float()
            fits = direction.ndim == 3 and lengths.shape == (len(direction), 1, 1)
            if not fits:
                raise ValueError(
                    f"{name} is {list(tensor.shape)} and its lengths are {list(lengths.shape)}: "
                    "they belong to different layers"
                )
            norm = torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
            folded[name.removesuffix("_v")] = direction * (lengths.float() / norm)
        elif not (name.endswith(".weight_g") and name.removesuffix("_g") + "_v" in tensors):
            folded[name] = tensor.float()
    return folded


def load_published(network: Encodec, tensors: Mapping[str, Tensor], *, prefix: str = "") -> None:
    """Fills a network with the tensors of a `transformers` EnCodec, under their published names.

    `prefix`: what stands before those names, as "audio_encoder." in MusicGen's checkpoints;
    tensors without it belong to others and are passed over. Any floating-point type is taken, and
    weight norm in both spellings of torch, or already folded. `ValueError` names tensors that are
    missing, of another shape, or unknown.
    """
    found = _fold(_own_tensors(tensors, prefix))
    layers = {n: one for n, one in network.named_modules() if isinstance(one, Layer)}
    wanted = {f"{n}.{own}": s for n, one in layers.items() for own, s in one.published().items()}
    books = [f"quantizer.layers.{level}.codebook.embed" for level in range(len(network.codes))]
    wanted |= dict.fromkeys(books, tuple(network.codes.shape[1:]))
    missing = [prefix + name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"these EnCodec weights lack {_some(missing)}: fetch them again")
    unfit = [
        f"{prefix}{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in wanted.items()
        if tuple(found[name].shape) != shape
    ]
    if unfit:
        raise ValueError(
            f"these EnCodec weights do not fit their settings: {_some(unfit)}; "
            "take the settings and the weights from one place"
        )
    unknown = sorted(prefix + name for name in found if name not in wanted)
    if unknown:
        raise ValueError(
            f"these EnCodec weights hold what the settings do not ask for: {_some(unknown)}; "
            "take the settings and the weights from one place"
        )
    for name, layer in layers.items():
        layer.load({own: found[f"{name}.{own}"] for own in layer.published()})
    for level, book in enumerate(books):
        network.codes[level] = found[book]


class EncodecCodec:
    """An EnCodec with published weights: waveforms in, token grids out, whole or as a stream.

    Tokens of the tensors' methods are [batch, level, frame], sound is [batch, channel, sample].
    `channels` 2 with a mono network is MusicGen's stereo: twice the levels, left and right in
    turns, both coded by the one network.
    """

    def __init__(
        self, network: Encodec, fingerprint: str, *, channels: int = 1, device: str = "cpu"
    ) -> None:
        own = network.settings.audio_channels
        if channels != own and (own, channels) != (1, 2):
            raise ValueError(
                f"a codec of {own} channels codes {'1 or 2' if own == 1 else own} channels, "
                f"not {channels}"
            )
        self.network = network.eval().to(device)
        self.fingerprint = fingerprint
        self.channels = channels
        self.device = device
        self.in_turns = channels != own
        if torch.device(device).type == "cpu":
            network.pack()

    @classmethod
    def from_published(
        cls,
        config: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        prefix: str = "",
        channels: int | None = None,
        precision: str = "float32",
        device: str = "cpu",
    ) -> EncodecCodec:
        """From the settings and the tensors of a `transformers` EnCodec.

        `prefix` as in `load_published`, `precision` (of the decoder) as in `Encodec`, `channels`
        as many as the network has unless it is told 2. `ValueError` for what does not fit. The
        fingerprint is of all but the decoder's weights, as published: neither the precision nor
        the spelling of weight norm changes it.
        """
        settings = EncodecSettings.from_config(config)
        network = Encodec(settings, precision=precision)
        load_published(network, tensors, prefix=prefix)
        channels = settings.audio_channels if channels is None else channels
        own = _own_tensors(tensors, prefix)
        # Not of the folded weights: their last digits differ between processors.
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
        return self.settings.levels * (2 if self.in_turns else 1)

    @property
    def vocabulary(self) -> int:
        """Codes of each level."""
        return self.settings.codebook_size

    @property
    def lookahead_seconds(self) -> float:
        """Sound by which a stream is late."""
        return self.network.lookahead_samples / self.rate_hz

    @torch.no_grad()
    def encode_sound(self, sound: Tensor) -> Tensor:
        """Sound [batch, channel, sample] at the codec's rate -> tokens [batch, level, frame]."""
        if sound.ndim != 3 or sound.shape[1] != self.channels:
            raise ValueError(
                f"sound to encode is [batch, {self.channels}, sample], not {list(sound.shape)}"
            )
        if not self.in_turns:
            return self.network.encode(sound.to(self.device))
        # Left and right of all pieces, one below the other: [channel * batch, 1, sample].
        below = torch.cat([sound[:, :1], sound[:, 1:]])
        left, right = self.network.encode(below.to(self.device)).chunk(2)
        return interleave(left, right)

    def encode(self, waveform: Waveform) -> TokenGrid:
        """Tokens of a waveform at the codec's rate; a frame that has only begun is one.

        A mono codec hears the mean of the channels, a stereo one hears mono on both sides.
        `ValueError` says what is allowed.
        """
        if waveform.rate_hz != self.rate_hz:
            raise ValueError(f"the codec hears {self.rate_hz} Hz, not {waveform.rate_hz}")
        if waveform.samples.shape[1] == 0:
            raise ValueError("there is no sound to encode")
        heard = waveform.samples if self.channels == 2 else waveform.mono[None]
        heard = np.array(np.broadcast_to(heard, (self.channels, heard.shape[1])))
        sound = torch.from_numpy(heard)[None]
        return TokenGrid(
            tokens=self.encode_sound(sound)[0].cpu().numpy(),
            vocabulary=self.vocabulary,
            frame_rate_hz=self.frame_rate_hz,
            fingerprint=self.fingerprint,
        )

    def _below(self, tokens: Tensor) -> Tensor:
        """Tokens as the network takes them: left and right one below the other."""
        if tokens.ndim != 3 or tokens.shape[1] != self.levels:
            raise ValueError(
                f"the codec decodes tokens of {self.levels} levels, [batch, level, frame], "
                f"not {list(tokens.shape)}"
            )
        tokens = tokens.to(self.device)
        return torch.cat(deinterleave(tokens)) if self.in_turns else tokens

    def _beside(self, sound: Tensor) -> Tensor:
        """The network's sound, left and right side by side as channels."""
        return torch.cat(sound.chunk(2), dim=1) if self.in_turns else sound

    def initial_state(self, batch: int = 1) -> tuple[LayerState, ...]:
        """A decoding stream before its first block."""
        return self.network.initial_state(batch * (2 if self.in_turns else 1))

    def step(
        self, tokens: Tensor, state: tuple[LayerState, ...]
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """Tokens [batch, level, frame] -> the sound that is now certain, and the new state.

        The first blocks give `lookahead_seconds` less than went in; `finish` says the rest.
        """
        sound, state = self.network.step(self._below(tokens), state)
        return self._beside(sound), state

    def finish(self, state: tuple[LayerState, ...]) -> Tensor:
        """The rest of a stream, [batch, channel, sample]."""
        return self._beside(self.network.finish(state))

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, level, frame] -> sound float32 [batch, channel, sample]."""
        return self._beside(self.network.decode_tokens(self._below(tokens)))

    def decode(self, grid: TokenGrid) -> Waveform:
        """Sound of a token grid of this codec. `ValueError` where another codec made it."""
        if grid.fingerprint != self.fingerprint:
            raise ValueError(
                f"these tokens were made by the codec {grid.fingerprint}, this is "
                f"{self.fingerprint}: decode them with the codec that made them"
            )
        if grid.tokens.shape[0] != self.levels or grid.tokens.shape[1] == 0:
            raise ValueError(
                f"the codec decodes {self.levels} levels of one frame or more, "
                f"not {list(grid.tokens.shape)}"
            )
        sound = self.decode_tokens(torch.from_numpy(grid.tokens)[None])
        return Waveform(samples=sound[0].cpu().numpy(), rate_hz=self.rate_hz)
