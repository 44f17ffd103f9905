"""Players in the place of the trained models: what they are asked for, and sound of some kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from melisma import generation
from melisma.generation.conditioning.audio import AudioConditions
from melisma.values import Facts, Prompt, TokenGrid, Waveform


@dataclass(frozen=True)
class MusicLMSampling:
    guidance_semantic: float = 3.0
    guidance_coarse: float = 1.0
    temperature_semantic: float = 0.95
    top_k_semantic: int = 250
    temperature_coarse: float = 0.9
    top_k_coarse: int = 200
    temperature_fine: float = 0.8


@dataclass(frozen=True)
class Piece:
    waveform: Waveform
    prompt: Prompt
    seed: int
    similarity: float
    candidates: list[float]
    semantic: TokenGrid
    acoustic: TokenGrid
    conditions: dict[str, str]
    stated: Facts


class Composer:
    name = "default"
    fingerprint = "f00d"
    licence = "CC-BY-SA-4.0"
    best_of = 4
    rate_hz = 24_000

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []
        self.interrupted_at: int | None = None
        """The call during which somebody presses Ctrl-C."""

    def drawing(self, changes: dict[str, float]) -> MusicLMSampling:
        named = {"guidance": "guidance_semantic"}
        return MusicLMSampling(**{named.get(n, n): v for n, v in changes.items()})  # type: ignore[arg-type]

    def stream(
        self, prompt: Prompt, *, seed: int, settings: MusicLMSampling, given: AudioConditions
    ) -> Iterator[Waveform]:
        self.calls.append({"prompt": prompt, "seed": seed, "settings": settings, "given": given})
        (piece,) = [self._piece(prompt, seed, 1)]
        for number, part in enumerate(np.array_split(piece.waveform.samples, 10, axis=1)):
            if self.interrupted_at == number:
                raise KeyboardInterrupt
            self.streamed = number + 1
            yield Waveform(samples=part, rate_hz=24_000)

    def generate_pieces(
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int,
        settings: MusicLMSampling,
        best_of: int | None = None,
        rank: str = "words",
        given: AudioConditions | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> list[Piece]:
        if self.interrupted_at == len(self.calls):
            raise KeyboardInterrupt
        self.calls.append(
            {
                "prompts": list(prompts),
                "seed": seed,
                "settings": settings,
                "best_of": best_of,
                "rank": rank,
                "given": given,
            }
        )
        if progress is not None:
            progress(0.5)
        return [self._piece(prompt, seed + i, best_of or 4) for i, prompt in enumerate(prompts)]

    def detect_families(self, waveform: Waveform) -> dict[str, float]:
        del waveform
        return {"piano": 0.9, "strings": 0.2}

    def _piece(self, prompt: Prompt, seed: int, best_of: int) -> Piece:
        rng = np.random.default_rng(seed)
        samples = 0.02 * rng.standard_normal((1, round(prompt.duration_seconds * 24_000))) + 0.1
        grid = TokenGrid(
            tokens=np.zeros((1, 25), np.int64), vocabulary=4, frame_rate_hz=25, fingerprint="x"
        )
        return Piece(
            waveform=Waveform(samples=samples, rate_hz=24_000),
            prompt=prompt,
            seed=seed,
            similarity=0.5,
            candidates=[0.5] * best_of,
            semantic=grid,
            acoustic=grid,
            conditions={"tempo": "90 bpm"},
            stated=Facts(tempo_bpm=90.0, families=("piano",)),
        )


class Codec:
    """One token a frame: the loudest amplitude in it, in 1024 steps."""

    def encode(self, waveform: Waveform, levels: int | None = None) -> TokenGrid:
        frames = waveform.mono[: len(waveform.mono) // 960 * 960].reshape(-1, 960)
        peaks = (np.abs(frames).max(axis=1) * 1023).astype(np.int64)
        return TokenGrid(
            tokens=np.tile(peaks, (levels or 8, 1)),
            vocabulary=1024,
            frame_rate_hz=25,
            fingerprint="peaks",
        )

    def decode(self, grid: TokenGrid) -> Waveform:
        if grid.fingerprint != "peaks":
            raise ValueError(f"these tokens are of another codec ({grid.fingerprint})")
        samples = np.repeat(grid.tokens[0] / 1023, 960)[None]
        return Waveform(samples=samples, rate_hz=24_000)


def seat(patch: pytest.MonkeyPatch) -> Composer:
    """Put the players in the place of those of `melisma.generation`, and return the composer."""
    composer = Composer()
    players = {
        "Composer": Composer,
        "Piece": Piece,
        "MusicLMSampling": MusicLMSampling,
        "load": lambda *_, **__: composer,
        "load_codec": Codec,
    }
    for name, player in players.items():
        patch.setattr(generation, name, player)
    return composer
