"""Sampling parameters as a person gives them: temperature, top-k, top-p, guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from melisma.values.errors import MelismaError, expect_integer, expect_real

STAGES = ("semantic", "coarse", "fine")
"""Stages of a three-stage model (MusicLM, 2301.11325, section 3.2)."""
MAX_TOP_K = 2**31 - 1
"""Largest top-k: beyond any vocabulary."""
LARGEST_SEED = 2**32 - 1
"""Largest seed of a piece."""
MAX_CANDIDATES = 64
"""Largest number of candidates of a piece (chosen)."""
RANKS = ("words", "receipt")
"""What candidates are ranked by: similarity to the words, or the agreement of the receipt."""
_NAMES = ("guidance", "temperature", "top_k", "top_p")


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are sampled. Whatever is None keeps the model's own default.

    Raises:
        MelismaError: A value lies beyond its limits.
    """

    temperature: float | None = None
    """Logits are divided by it; 0 takes the most likely token (greedy)."""
    top_k: int | None = None
    """Only the k most likely tokens may be sampled; 0: all of them."""
    top_p: float | None = None
    """Only the most likely tokens that together hold this probability may be sampled (nucleus
    sampling, 1904.09751, section 3.1); 1: all of them."""
    guidance: float | None = None
    """Scale of classifier-free guidance (2207.12598, section 3.2); 1: none. Of a three-stage model
    it is that of the semantic stage."""
    semantic: SamplingParams | None = None
    """For the semantic stage of a three-stage model alone."""
    coarse: SamplingParams | None = None
    """For its coarse acoustic stage alone."""
    fine: SamplingParams | None = None
    """For its fine acoustic stage alone."""

    def __post_init__(self) -> None:
        for name, value, high in (
            ("a temperature", self.temperature, 10.0),
            ("top-p", self.top_p, 1.0),
            ("guidance", self.guidance, 20.0),
        ):
            if value is not None:
                expect_real(name, value, 0.0, high)
        if self.top_p == 0:
            raise MelismaError("top-p lies above 0 and up to 1, not 0")
        if self.top_k is not None:
            expect_integer("top-k (0 for all tokens)", self.top_k, 0, MAX_TOP_K)
        for stage in STAGES:
            value = getattr(self, stage)
            if value is not None and not isinstance(value, SamplingParams):
                raise MelismaError(f"the parameters of the stage {stage} are SamplingParams")

    @classmethod
    def of(cls, values: Mapping[str, float | int]) -> SamplingParams:
        """From names such as "temperature" and "temperature_semantic", as the command line has.

        Raises:
            MelismaError: There is no such parameter.
        """
        own: dict[str, float | int] = {}
        by_stage: dict[str, dict[str, float | int]] = {}
        for name, value in values.items():
            plain, _, stage = name.rpartition("_")
            if stage in STAGES and plain in _NAMES:
                by_stage.setdefault(stage, {})[plain] = value
            elif name in _NAMES:
                own[name] = value
            else:
                raise MelismaError(f"there is no sampling parameter {name}")
        stages = {stage: cls(**found) for stage, found in by_stage.items()}  # pyright: ignore[reportArgumentType]
        return cls(**own, **stages)  # pyright: ignore[reportArgumentType]

    def flat(self) -> dict[str, float | int]:
        """What is given, by the names of `of`."""
        found = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        for one in fields(self):
            if one.name in STAGES and (stage := getattr(self, one.name)) is not None:
                found |= {f"{name}_{one.name}": value for name, value in stage.flat().items()}
        return found
