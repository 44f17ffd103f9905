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

RECIPES: tuple[str, ...] = ("all", *PARTS, "polish")
"""All recipes: the whole chain, each part, and decoder polishing with frozen tokens."""

SIZES: tuple[str, ...] = ("toy", "small", "large")
"""toy: a million parameters each, minutes. small: two processor cores, hours. large: one GPU."""
