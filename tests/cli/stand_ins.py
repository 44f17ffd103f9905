"""Stand-ins for the trained models: they record their calls and return noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from melisma.generation import loading
from melisma.generation.conditioning.audio import AudioConditions
from melisma.generation.conditioning.understanding import Understanding
from melisma.generation.musiclm import MUSICLM_SAMPLING
from melisma.generation.pipeline import AudioPiece, AudioPipeline
from melisma.generation.requests import facade
from melisma.sound.stored import StoredSound
from melisma.values import Facts, Prompt, TokenGrid, Waveform
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams


class Composer(AudioPipeline):
    sampling_defaults = MUSICLM_SAMPLING

    def __init__(self) -> None:
        super().__init__(name="default", licence="CC-BY-SA-4.0", rate_hz=24_000, best_of=4)
        self.calls: list[dict[str, object]] = []
        self.interrupted_at: int | None = None
        """Index of the call during which Ctrl-C is pressed."""
        self.streamed = 0

    @property
    def fingerprint(self) -> str:
        return "f00d"

    def originality_index(self) -> Any:
        raise MelismaError("--original: no index")

    def stream(
        self,
        prompt: Prompt,
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        context: AudioConditions | None = None,
    ) -> Iterator[Waveform]:
        resolved = self.resolve_sampling(sampling)
        self.calls.append(
            {"prompt": prompt, "seed": seed, "sampling": resolved, "context": context}
        )
        (piece,) = [self._piece(prompt, seed, 1)]
        for number, part in enumerate(np.array_split(piece.waveform.samples, 10, axis=1)):
            if self.interrupted_at == number:
                raise KeyboardInterrupt
            self.streamed = number + 1
            yield Waveform(samples=part, rate_hz=24_000)

    def generate_pieces(  # type: ignore[override] # pieces of its own kind
        self,
        prompts: Sequence[Prompt],
        *,
        seed: int = 0,
        sampling: SamplingParams | None = None,
        best_of: int | None = None,
        rank: str = "words",
        context: AudioConditions | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> list[AudioPiece]:
        if self.interrupted_at == len(self.calls):
            raise KeyboardInterrupt
        self.calls.append(
            {
                "prompts": list(prompts),
                "seed": seed,
                "sampling": self.resolve_sampling(sampling),
                "best_of": best_of,
                "rank": rank,
                "context": context,
            }
        )
        if progress is not None:
            progress(0.5)
        return [self._piece(prompt, seed + i, best_of or 4) for i, prompt in enumerate(prompts)]

    def understand(
        self, prompt: Prompt, *, seed: int = 0, context: AudioConditions | None = None
    ) -> Understanding:
        del prompt, seed, context
        return Understanding(understood={"tempo": "90 bpm"})

    def detect_families(self, sound: StoredSound | Waveform) -> dict[str, float]:
        del sound
        return {"piano": 0.9, "strings": 0.2}

    def _piece(self, prompt: Prompt, seed: int, best_of: int) -> AudioPiece:
        rng = np.random.default_rng(seed)
        samples = 0.02 * rng.standard_normal((1, round(prompt.duration_seconds * 24_000))) + 0.1
        grid = TokenGrid(
            tokens=np.zeros((1, 25), np.int64), vocabulary=4, frame_rate_hz=25, fingerprint="x"
        )
        return AudioPiece(
            sound=StoredSound.of(Waveform(samples=samples, rate_hz=24_000)),
            prompt=prompt,
            seed=seed,
            similarity=0.5,
            candidates=[0.5] * best_of,
            semantic=grid,
            acoustic=grid,
            conditions={"tempo": "90 bpm"},
            understanding=self.understand(prompt),
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
    """Replaces the models by stand-ins, and returns the pipeline."""
    composer = Composer()
    patch.setattr(facade, "load", lambda *_, **__: composer)
    patch.setattr(loading, "load_codec", Codec)
    patch.setattr(facade, "load_codec", lambda _: Codec())
    return composer
