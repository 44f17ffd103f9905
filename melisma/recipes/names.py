"""Names of recipes and sizes, importable without torch."""

from __future__ import annotations

PARTS: tuple[str, ...] = (
    "codec",
    "semantic",
    "text",
    "joint",
    "tokens",
    "semantic_lm",
    "coarse_lm",
    "fine_lm",
)
"""Parts of the whole chain, in order: each needs those before it."""

RECIPES: tuple[str, ...] = (
    "all",
    *PARTS,
    "finetune_codec",
    "finetune_text",
    "single",
    "score",
    "index",
    "fingerprints",
    "judge",
    "reference",
    "score_reference",
    "ship",
)
"""All recipes: the whole chain; each part of it; fine-tuning that leaves all tokens valid (of the
codec's decoder, and of the text tower); a single stage conditioned on captions; the score model,
trained on notation alone; the index of the language model's training clips; fingerprints of the
score model's training pieces; the independent judge; the references of real music that it compares
outputs with; and export of the run's model in compressed form."""

FORMER_NAMES: dict[str, str] = {
    "polish": "finetune_codec",
    "polish_text": "finetune_text",
    "prints": "fingerprints",
}
"""Former names of recipes, still accepted on the command line and as folders of existing runs."""

SIZES: tuple[str, ...] = ("toy", "small", "large")
"""toy: a million parameters each, minutes. small: two CPU cores, hours. large: one GPU."""


def present_recipe(name: str) -> str:
    """The present name of a recipe; other names are returned unchanged."""
    return FORMER_NAMES.get(name, name)


def present_key(key: str) -> str:
    """The key of a setting under the present name of its recipe, e.g. "polish.loop.updates" ->
    "finetune_codec.loop.updates"."""
    part, dot, rest = key.partition(".")
    return present_recipe(part) + dot + rest if dot else key
