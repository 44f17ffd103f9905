"""Outputs to judge are kept, and made again only where they would be others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np

from melisma.evaluate.outputs import OutputSettings, make_sounds
from melisma.files import read_provenance
from melisma.generation.musiclm import MusicLM
from melisma.values import Prompt, Waveform
from melisma.values.sampling import SamplingParams

MAKING = OutputSettings(seconds=1.0, best_of=2, seed=9)
PROMPTS = [f"prompt {number}" for number in range(6)]


@dataclasses.dataclass(frozen=True)
class NoisePiece:
    waveform: Waveform


class Noise:
    """Generates noise by the seed, and records its calls."""

    name, fingerprint, licence = "noise", "f00d", "CC0"

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], int]] = []

    def resolve_sampling(self, sampling: SamplingParams | None) -> dict[str, float]:
        assert sampling is None
        return {"temperature": 1.0}

    def generate_pieces(
        self, prompts: list[Prompt], *, seed: int, sampling: SamplingParams | None, best_of: int
    ) -> list[NoisePiece]:
        assert best_of == 2
        assert sampling is None
        self.calls.append(([prompt.words for prompt in prompts], seed))
        pieces = []
        for number in range(len(prompts)):
            rng = np.random.default_rng(seed + number)
            samples = 0.1 * rng.standard_normal((1, 24_000)).astype(np.float32)
            pieces.append(NoisePiece(Waveform(samples=samples, rate_hz=24_000)))
        return pieces


def made(folder: Path, making: OutputSettings = MAKING) -> tuple[list[Path], Noise]:
    noise = Noise()
    return make_sounds(cast(MusicLM, noise), PROMPTS, folder, making), noise


def test_every_prompt_has_a_file_that_says_how_it_was_made(tmp_path: Path) -> None:
    paths, noise = made(tmp_path)
    assert [path.name for path in paths] == [f"{n:03d}.flac" for n in range(6)]
    assert noise.calls == [(PROMPTS[:4], 9), (PROMPTS[4:], 13)]
    sign = read_provenance(paths[5])
    assert sign is not None
    assert (sign.prompt, sign.seed, sign.model) == ("prompt 5", 14, "noise")


def test_an_interrupted_run_goes_on_with_the_same_batches(tmp_path: Path) -> None:
    paths, _ = made(tmp_path)
    before = [path.read_bytes() for path in paths]
    paths[5].unlink()
    paths[2].write_bytes(b"half a file")
    _, noise = made(tmp_path)
    assert noise.calls == [(PROMPTS[:4], 9), (PROMPTS[4:], 13)]
    assert [path.read_bytes() for path in paths] == before
    assert made(tmp_path)[1].calls == []


def test_another_seed_is_another_output(tmp_path: Path) -> None:
    made(tmp_path)
    assert len(made(tmp_path, dataclasses.replace(MAKING, seed=10))[1].calls) == 2
