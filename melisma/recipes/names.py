"""Names of recipes and sizes, readable without loading torch."""

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
"""The chain in its order: each needs those before it."""

RECIPES: tuple[str, ...] = (
    "all",
    *PARTS,
    "polish",
    "polish_text",
    "single",
    "score",
    "index",
    "prints",
    "judge",
    "reference",
    "score_reference",
    "ship",
)
"""All recipes: the whole chain, each part, what polishes without making new tokens (the codec's
decoder, and the text tower), the single stage that is told captions, the score model, which learns
from notation alone, the index of the clips that the language model learned from, the prints of the
pieces that the score model learned from, the independent judge, the real music that it measures
outputs against, and the run's model made small enough to pass on."""

SIZES: tuple[str, ...] = ("toy", "small", "large")
"""toy: a million parameters each, minutes. small: two processor cores, hours. large: one GPU."""
