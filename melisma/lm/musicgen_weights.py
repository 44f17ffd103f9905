"""Conversion of MusicGen's published decoders (Copet et al., 2306.05284) to `TokenModel`.

Input: a configuration and tensors in the layout of transformers (`musicgen` and `musicgen_melody`,
version 4.31 and later). Output: `TokenModelSettings`, and a reader of our state dict that loads
theirs by name, one tensor at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from melisma.files.transformers_checkpoint import musicgen_config
from melisma.lm.conditioning import CHROMA_SIZE, ConditioningSettings
from melisma.lm.model import TokenModel, TokenModelSettings
from melisma.values.errors import MelismaError

DECODER = "decoder.model.decoder."
"""Prefix of the decoder's tensor names."""
SPARE = (f"{DECODER}embed_positions.weights",)
"""Tensors of some files that are not needed: positions are computed."""

_LAYER = re.compile(r"trunk\.layers\.(\d+)\.(.+)")
_PARTS: dict[str, tuple[str, ...]] = {
    "attention_norm.weight": ("self_attn_layer_norm.weight",),
    "attention_norm.bias": ("self_attn_layer_norm.bias",),
    "attention.qkv_proj.weight": tuple(f"self_attn.{one}_proj.weight" for one in "qkv"),
    "attention.out_proj.weight": ("self_attn.out_proj.weight",),
    "cross_attention_norm.weight": ("encoder_attn_layer_norm.weight",),
    "cross_attention_norm.bias": ("encoder_attn_layer_norm.bias",),
    "cross_attention.q_proj.weight": ("encoder_attn.q_proj.weight",),
    "cross_attention.kv_proj.weight": tuple(f"encoder_attn.{one}_proj.weight" for one in "kv"),
    "cross_attention.out_proj.weight": ("encoder_attn.out_proj.weight",),
    "feed_forward_norm.weight": ("final_layer_norm.weight",),
    "feed_forward_norm.bias": ("final_layer_norm.bias",),
    "up_proj.weight": ("fc1.weight",),
    "down_proj.weight": ("fc2.weight",),
}
"""A layer's tensor here -> a layer's tensors in transformers, concatenated along the rows."""
_OTHERS = {
    "trunk.norm.weight": f"{DECODER}layer_norm.weight",
    "trunk.norm.bias": f"{DECODER}layer_norm.bias",
    "conditioner.text.weight": "enc_to_dec_proj.weight",
    "conditioner.text.bias": "enc_to_dec_proj.bias",
    "conditioner.chroma.weight": "audio_enc_to_dec_proj.weight",
    "conditioner.chroma.bias": "audio_enc_to_dec_proj.bias",
}


def settings_of(config: Mapping[str, Any]) -> TokenModelSettings:
    """Settings of the decoder.

    Args:
        config: content of the checkpoint's config.json.

    Raises:
        MelismaError: names what is missing or not supported.
    """
    checked = musicgen_config(config)
    decoder, melody = checked.decoder, checked.melody
    if decoder.activation_function != "gelu":
        raise MelismaError(f'the activation "{decoder.activation_function}" is not MusicGen\'s')
    if melody and checked.num_chroma != CHROMA_SIZE:
        raise MelismaError(f"a chroma of {checked.num_chroma} classes is not one of {CHROMA_SIZE}")
    if decoder.ffn_dim % 32:
        raise MelismaError(f"a feed-forward width of {decoder.ffn_dim} is no multiple of 32")
    heads, width = decoder.num_attention_heads, decoder.hidden_size
    if not heads or width % heads or width // heads % 2:
        raise MelismaError(f"a width of {width} is not divided into {heads} heads of even width")
    if checked.stereo and decoder.num_codebooks % 2:
        raise MelismaError(
            f"a stereo model has an even number of codebooks, not {decoder.num_codebooks}"
        )
    return TokenModelSettings(
        levels=decoder.num_codebooks,
        vocabulary=decoder.vocab_size,
        pattern="delayed_pairs" if checked.stereo else "delayed",
        width=width,
        layers=decoder.num_hidden_layers,
        heads=heads,
        window_frames=decoder.max_position_embeddings,
        expansion=decoder.ffn_dim / width,
        norm="layer",
        feed_forward="gelu",
        positions="sinusoidal",
        conditions=ConditioningSettings(
            slots=False,
            text_width=checked.text_width,
            text_before=melody,
            chroma_frames=checked.chroma_length if melody else 0,
        ),
    )


def names_of(name: str) -> tuple[str, ...]:
    """Names of the tensors in transformers whose concatenated rows are the tensor `name` here."""
    found = _LAYER.fullmatch(name)
    if found:
        return tuple(f"{DECODER}layers.{found[1]}.{part}" for part in _PARTS[found[2]])
    if name.startswith("tables."):
        return (f"{DECODER}embed_tokens.{name.split('.')[1]}.weight",)
    if name.startswith("heads."):
        return (f"decoder.lm_heads.{name.split('.')[1]}.weight",)
    return (_OTHERS[name],)


def expected_shapes(model: TokenModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors in transformers that a model (of any device, "meta"
    included) needs."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        parts = names_of(name)
        for part in parts:
            shapes[part] = (tensor.shape[0] // len(parts), *tensor.shape[1:])
    return shapes


def reader_of(get: Callable[[str], Tensor]) -> Callable[[str], Tensor]:
    """Wraps a reader of tensors by their names in transformers into one by our names."""

    def read(name: str) -> Tensor:
        parts = [get(part) for part in names_of(name)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return read
