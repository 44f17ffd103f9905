"""Names of tensors and settings in checkpoints before version 0.6, and what they are called now.

A checkpoint is read under today's names, whichever it has. Fingerprints are computed over the names
of the first versions, so that they stay what they are: shards and stages name them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TENSORS: tuple[tuple[str, str], ...] = (
    ("trunk.layers.#.attention.enter", "trunk.layers.#.attention.qkv_proj"),
    ("trunk.layers.#.attention.leave", "trunk.layers.#.attention.out_proj"),
    ("trunk.layers.#.text_attention.ask", "trunk.layers.#.cross_attention.q_proj"),
    ("trunk.layers.#.text_attention.tell", "trunk.layers.#.cross_attention.kv_proj"),
    ("trunk.layers.#.text_attention.leave", "trunk.layers.#.cross_attention.out_proj"),
    ("trunk.layers.#.text_norm", "trunk.layers.#.cross_attention_norm"),
    ("trunk.layers.#.mix_norm", "trunk.layers.#.feed_forward_norm"),
    ("trunk.layers.#.mix_in", "trunk.layers.#.up_proj"),
    ("trunk.layers.#.mix_out", "trunk.layers.#.down_proj"),
    ("transformer.layers.#.into_heads", "transformer.layers.#.qkv_proj"),
    ("transformer.layers.#.out_of_heads", "transformer.layers.#.out_proj"),
    ("transformer.layers.#.forward_norm", "transformer.layers.#.feed_forward_norm"),
    ("transformer.layers.#.expand", "transformer.layers.#.up_proj"),
    ("transformer.layers.#.contract", "transformer.layers.#.down_proj"),
    ("encoder.enter", "encoder.in_proj"),
    ("encoder.leave", "encoder.out_proj"),
    ("decoder.enter", "decoder.in_proj"),
    ("decoder.leave", "decoder.out_proj"),
    ("mixers.#.enter", "mixers.#.up_proj"),
    ("mixers.#.leave", "mixers.#.down_proj"),
    ("drawn", "sampled_fields"),
    ("drawn_program", "sampled_program"),
)
"""Dotted parts of a name, "#" for any number: as they were, and as they are. In a training state a
slash stands before them."""

_ALONE: tuple[tuple[str, str], ...] = (("enter", "in_proj"),)
"""The same, where nothing but a slash stands before."""

TOKENIZERS_KEY = "ears"
"""Key of the tokenizers' fingerprints in the facts of a row of token shards, of all versions."""

_SETTINGS: dict[str, str] = {
    "drawn_from": "first_sampled_level",
    "peak_rate": "learning_rate",
    "lessons": "replay_batch",
    "opening_from": "short_crop_from",
    "opening_frames": "short_crop_frames",
    "opening_drop": "short_crop_drop",
    "opening_updates": "short_crop_updates",
    "opening_rate": "short_crop_rate",
    "openings": "piece_starts",
    "opening_events": "piece_start_events",
}


def _pattern(part: str, alone: bool) -> str:
    before = r"(?:^|(?<=/))" if alone else r"(?:^|(?<=[./]))"
    return before + re.escape(part).replace(r"\#", r"(\d+)") + r"(?=\.)"


def _rules(backwards: bool) -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for table, alone in ((_ALONE, True), (_TENSORS, False)):
        for old, new in table:
            source, target = (new, old) if backwards else (old, new)
            number = iter(range(1, 9))
            to = re.sub("#", lambda _, n=number: rf"\{next(n)}", target)
            rules.append((re.compile(_pattern(source, alone)), to))
    return rules


_TO_PRESENT, _TO_FIRST = _rules(False), _rules(True)


def present_name(name: str) -> str:
    """Today's name of a tensor of any version; today's names stay."""
    for pattern, to in _TO_PRESENT:
        name = pattern.sub(to, name)
    return name


def first_name(name: str) -> str:
    """The name that a tensor had in the first versions."""
    for pattern, to in _TO_FIRST:
        name = pattern.sub(to, name)
    return name


def present_settings(settings: Any) -> Any:
    """A settings tree of any version under today's names, JSON values."""
    return _renamed(settings, _SETTINGS)


def first_settings(settings: Any) -> Any:
    """A settings tree under the names of the first versions."""
    return _renamed(settings, {new: old for old, new in _SETTINGS.items()})


def _renamed(tree: Any, names: Mapping[str, str]) -> Any:
    if isinstance(tree, Mapping):
        return {names.get(key, key): _renamed(value, names) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_renamed(value, names) for value in tree]
    return tree
