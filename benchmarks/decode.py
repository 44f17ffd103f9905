"""Speed of MusicGen on this processor: transformers and Melisma side by side.

Run: `python benchmarks/decode.py [--size small] [--seconds 10 30] [--threads 2]
[--instruction-set avx2]`. A checkpoint of random weights with the shapes of the published one
(T5-base, decoder, EnCodec 32 kHz) is written to a temporary folder and read by both, one prompt
with guidance 3, top-k 250, temperature 1. Every row is one implementation and precision; the rounds
go through all of them in turn, so that a machine that slows down slows all. Figures are medians
over the rounds.

*steps/s*: sequential steps of the language model. *real time*: seconds of sound over the seconds
from prompt to sound. *first sound*: seconds to the first block of a stream. *limit*: what the same
steps would take if memory were read without a pause: bytes per step (weights, and the KV cache at
the middle of the piece) over the bandwidth, which is measured again after every 32 steps, because
on a shared machine it doubles and halves within seconds. *memory*: peak of the process without
mapped files, less what it took before the model was loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from processor import start
from tokenizers import Tokenizer, models, pre_tokenizers

from melisma.engine.cpu import NativeEngine
from melisma.engine.resources.hardware import read_bandwidth
from melisma.generation.loading import load
from melisma.generation.musicgen import MusicGen
from melisma.values import Prompt
from melisma.values.model_ref import PRECISIONS

SHAPES = {
    "tiny": (2, 128, 4),
    "small": (24, 1024, 16),
    "medium": (48, 1536, 24),
    "large": (48, 2048, 32),
}
"""Layers, width, heads of the decoder."""
WORDS = "an upbeat funk track with slap bass, a brass section and a tight drum kit, 110 bpm"
FRAMES_A_SECOND = 50


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one implementation and precision."""

    way: str
    seconds: float
    """Of sound."""
    steps_a_second: float
    real_time: float
    first_sound_seconds: float | None
    memory_bytes: int | None
    limit_steps_a_second: float | None
    bandwidth: float | None
    """Bytes a second that could be read between the steps, the harmonic mean."""


def write_random(folder: Path, size: str) -> None:
    """A checkpoint of random weights with the published shapes."""
    import transformers as t

    layers, width, heads = SHAPES[size]
    text = t.T5Config(
        vocab_size=32_128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12,
        feed_forward_proj="relu",
    )  # fmt: skip
    codec = t.EncodecConfig(
        sampling_rate=32_000, num_filters=64, upsampling_ratios=[8, 5, 4, 4], codebook_size=2048,
        codebook_dim=128, hidden_size=128, target_bandwidths=[2.2], use_causal_conv=False,
    )  # fmt: skip
    decoder = t.MusicgenDecoderConfig(
        vocab_size=2048, num_codebooks=4, hidden_size=width, ffn_dim=4 * width,
        num_hidden_layers=layers, num_attention_heads=heads, pad_token_id=2048, bos_token_id=2048,
    )  # fmt: skip
    config = t.MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
    torch.manual_seed(0)
    model = t.MusicgenForConditionalGeneration(config)
    model.generation_config.decoder_start_token_id = 2048
    model.save_pretrained(folder, safe_serialization=True)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))


def private_bytes() -> int | None:
    """Memory of this process without mapped files; None where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith("RssAnon:")]
    return int(found[0].split()[1]) * 1024 if found else None


def give_back() -> None:
    """Returns free memory to the system, so that the next model is not measured too low."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Peak of `private_bytes` above that at the beginning, once the context is left."""
    give_back()
    before, found, over = private_bytes(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            found[0] = max(found[0], (private_bytes() or 0) - (before or 0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


def theirs(folder: Path, kind: torch.dtype, seconds: float) -> Run:
    """Runs transformers, as in its documentation."""
    import transformers as t

    frames = round(seconds * FRAMES_A_SECOND)
    with peak_memory() as memory:
        model = t.MusicgenForConditionalGeneration.from_pretrained(folder, dtype=kind).eval()
        ids = torch.tensor([[2] * 20 + [1]])
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        marks: list[float] = []

        class Clock(t.LogitsProcessor):
            def __call__(self, _ids: Any, scores: Any) -> Any:
                marks.append(time.perf_counter())
                return scores

        def generate(count: int) -> None:
            with torch.inference_mode():
                model.generate(
                    **inputs, do_sample=True, guidance_scale=3.0, top_k=250, max_new_tokens=count,
                    logits_processor=t.LogitsProcessorList([Clock()]),
                )  # fmt: skip

        generate(8)
        marks.clear()
        began = time.perf_counter()
        generate(frames + 3)
        taken = time.perf_counter() - began
    name = "transformers " + str(kind).removeprefix("torch.")
    return Run(
        way=name,
        seconds=seconds,
        steps_a_second=(len(marks) - 1) / (marks[-1] - marks[0]),
        real_time=seconds / taken,
        first_sound_seconds=taken,
        memory_bytes=memory[0] or None,
        limit_steps_a_second=None,
        bandwidth=None,
    )


def ours(folder: Path, precision: str, seconds: float, threads: int) -> Run:
    """Runs Melisma."""
    with peak_memory() as memory:
        composer = load(folder, precision=precision, device="cpu")
        assert isinstance(composer, MusicGen)
        list(composer.stream(Prompt(words=WORDS, duration_seconds=1.0)))
        began = time.perf_counter()
        first = None
        for _ in composer.stream(Prompt(words=WORDS, duration_seconds=seconds), seed=1):
            first = first or time.perf_counter() - began
        taken = time.perf_counter() - began
    steps, bandwidth = steps_a_second(composer, seconds, threads)
    assert isinstance(composer.engine, NativeEngine)
    return Run(
        way=f"Melisma {precision}",
        seconds=seconds,
        steps_a_second=steps,
        real_time=seconds / taken,
        first_sound_seconds=first,
        memory_bytes=memory[0] or None,
        limit_steps_a_second=bandwidth / bytes_a_step(composer.engine, seconds),
        bandwidth=bandwidth,
    )


def steps_a_second(composer: MusicGen, seconds: float, threads: int) -> tuple[float, float]:
    """Steps per second of the language model alone, and the bandwidth of memory meanwhile, in bytes
    per second."""
    from melisma.engine.generate import sample_stream
    from melisma.generation.musicgen import MUSICGEN_SAMPLING
    from melisma.generation.pipeline import stage_sampling
    from melisma.lm.conditioning import Conditioning, text_condition

    states = composer.words.encode([WORDS])
    text = text_condition(states.states.float(), states.lengths)
    conditioning = Conditioning(batch=1, length=1, text=text)
    frames = round(seconds * FRAMES_A_SECOND)
    blocks = sample_stream(
        composer.engine,
        conditioning,
        frames,
        stage_sampling(MUSICGEN_SAMPLING),
        [torch.Generator().manual_seed(0)],
    )
    probes, done, taken, least = [read_bandwidth(threads)], 0, 0.0, 0.0
    while True:
        began = time.perf_counter()
        grid = next(blocks, None)
        taken += time.perf_counter() - began
        if grid is None:
            return done / taken, done / least
        probes.append(read_bandwidth(threads))
        # Steps of one byte each at the bandwidth around them.
        least += (grid.step - done) * 2 / (probes[-1] + probes[-2])
        done = grid.step


def bytes_a_step(engine: NativeEngine, seconds: float) -> float:
    """Weights, and the KV cache of both branches at the middle of the piece."""
    shape = engine.trunk.shape
    each = np.dtype(engine.trunk.cache_dtype).itemsize
    position = shape.width * each + (4 * shape.heads if each == 1 else 0)
    cache = 2 * 2 * shape.layers * position * seconds * FRAMES_A_SECOND / 2
    return engine.bytes_per_step + cache


def table(runs: list[Run]) -> str:
    """Medians as a table in Markdown."""
    lines = [
        "| | sound | steps/s | real time | of the limit | first sound | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for seconds in sorted({run.seconds for run in runs}):
        for way in dict.fromkeys(run.way for run in runs):
            mine = [run for run in runs if (run.way, run.seconds) == (way, seconds)]
            if not mine:
                continue

            def middle(of: Callable[[Run], float | None], mine: list[Run] = mine) -> float:
                return float(np.median([of(run) or np.nan for run in mine]))

            share = middle(
                lambda r: r.limit_steps_a_second and r.steps_a_second / r.limit_steps_a_second
            )
            shown = "" if np.isnan(share) else f"{share:.0%}"
            memory = middle(lambda r: r.memory_bytes) / 1e9
            lines.append(
                f"| {way} | {seconds:g} s | {middle(lambda r: r.steps_a_second):.1f} "
                f"| {middle(lambda r: r.real_time):.2f} | {shown} "
                f"| {middle(lambda r: r.first_sound_seconds):.2f} s | {memory:.2f} GB |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SHAPES, default="small")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument(
        "--transformers", nargs="*", default=["float32", "bfloat16"], help="its types; none: skip"
    )
    parser.add_argument("--checkpoint", type=Path, help="where the random one stays or is")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    given, found = start(parser)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.checkpoint or Path(temporary)
        if not (folder / "config.json").is_file():
            write_random(folder, given.size)
        runs: list[Run] = []
        for number in range(given.rounds):
            for seconds in given.seconds:
                for name in given.transformers:
                    # The slow one once at each length: a round of it takes minutes.
                    if name == "float32" and number:
                        continue
                    runs.append(theirs(folder, getattr(torch, name), seconds))
                    print(f"round {number + 1}", runs[-1], flush=True)
                for precision in given.precisions:
                    runs.append(ours(folder, precision, seconds, given.threads))
                    print(f"round {number + 1}", runs[-1], flush=True)
    print(table(runs))
    given.results.mkdir(parents=True, exist_ok=True)
    lengths = "_".join(f"{seconds:g}" for seconds in given.seconds)
    path = given.results / f"decode_{given.size}_{lengths}_{found.label}.json"
    document = {"machine": found.facts(), "runs": [asdict(run) for run in runs]}
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
