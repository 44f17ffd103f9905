"""Manners of a library: what the caller has set changes no music, and what the caller has stays."""

from __future__ import annotations

import ast
import logging
import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import small_musicgen
import torch
from small_model import write_model
from small_score_model import write_score_model

import melisma
from melisma.generation.requests.facade import MelismaPipeline
from melisma.values import Prompt, Waveform
from melisma.values.errors import MelismaError
from melisma.values.score_prompt import ScorePrompt

PACKAGE = Path(melisma.__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of sound and of scores."""
    folder = tmp_path_factory.mktemp("manners")
    write_model(folder)
    torch.manual_seed(1)
    write_score_model(folder, 200)
    return folder


def tone() -> Waveform:
    samples = 0.1 * np.sin(np.arange(24_000) / 10, dtype=np.float32)
    samples.setflags(write=False)  # the caller's, and nobody else's
    return Waveform(samples=samples[None], rate_hz=24_000)


def music(pipeline: MelismaPipeline) -> list[np.ndarray]:
    """Samples and notes of everything that a pipeline makes."""
    sound = pipeline.generate("a sad waltz at 90 bpm", duration=2, seed=7, best_of=2)
    follows = pipeline.generate("a", duration=1, best_of=1, continue_from=tone(), keep_seconds=1)
    score = pipeline.compose("a duet for flute and cello", bars=2, seed=3, best_of=2).score
    tokens = pipeline.encode(tone())
    notes = [
        np.stack([n.start_beats, n.duration_beats, n.pitch, n.velocity])
        for n in (track.notes for track in score.tracks)
    ]
    vectors = pipeline.scores.joint.embed_text(["a march"])
    decoded = pipeline.decode(tokens).samples
    return [
        sound.waveform.samples, follows.waveform.samples, *notes, tokens.tokens, decoded, vectors,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[np.ndarray]:
    return music(melisma.load(folder))


@contextmanager
def torch_defaults(dtype: torch.dtype | None, device: str | None) -> Iterator[None]:
    before = torch.get_default_dtype()
    if dtype is not None:
        torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


@pytest.mark.parametrize("late", [False, True], ids=["before-loading", "after-loading"])
def test_inference_mode_of_the_caller_changes_no_sample(
    folder: Path, expected: list[np.ndarray], *, late: bool
) -> None:
    pipeline = melisma.load(folder)
    if late:
        music(pipeline)
    with torch.inference_mode():
        found = music(pipeline)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("late", [False, True], ids=["before-loading", "after-loading"])
@pytest.mark.parametrize(
    ("dtype", "device"),
    [(torch.float64, None), (torch.bfloat16, None), (torch.float16, "meta"), (None, "meta")],
)
def test_defaults_of_torch_change_no_sample(
    folder: Path,
    expected: list[np.ndarray],
    dtype: torch.dtype | None,
    device: str | None,
    *,
    late: bool,
) -> None:
    pipeline = melisma.load(folder)
    if late:
        music(pipeline)
    with torch_defaults(dtype, device):
        found = music(pipeline)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


_FACTORIES = {
    "arange", "empty", "eye", "full", "hann_window", "kaiser_window", "linspace", "ones", "rand",
    "randint", "randn", "randperm", "tensor", "zeros",
}  # fmt: skip


def _unnamed(path: Path) -> Iterator[str]:
    """Calls that make a tensor of torch's default type or on its default device."""
    tree = ast.parse(path.read_text("utf-8"))
    modules = [
        (one.lineno, one.end_lineno or 0)
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for one in kind.body
        if isinstance(one, ast.FunctionDef) and one.name in ("__init__", "_add_slots")
    ]
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        if ast.unparse(call.func.value) == "torch" and call.func.attr in _FACTORIES:
            named = {keyword.arg for keyword in call.keywords}
            # A module's own tensors are made where its caller wants them: without storage first.
            inside = any(first <= call.lineno <= last for first, last in modules)
            if not named >= ({"dtype"} if inside else {"dtype", "device"}):
                yield f"{path.relative_to(PACKAGE)}:{call.lineno}: {ast.unparse(call)}"


def test_every_tensor_names_its_type_and_device() -> None:
    trained = ("train", "recipes")
    paths = [p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] not in trained]
    found = [line for path in sorted(paths) for line in _unnamed(path)]
    assert not found, "\n".join(found)


_STATE = """
import json, locale, logging, os, random, signal, sys, threading, warnings
import numpy as np, torch

def state():
    umask = os.umask(0o22)
    os.umask(umask)
    return {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": repr(np.random.get_state()),
        "random": repr(random.getstate()),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "precision": torch.get_float32_matmul_precision(),
        "backends": (
            torch.backends.mkldnn.enabled,
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
        "dtype": str(torch.get_default_dtype()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "denormal": float(torch.full((4,), 1e-40) * 1.0 @ torch.ones(4)) != 0.0,
        "umask": umask,
        "folder": os.getcwd(),
        "filters": repr(warnings.filters),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": [repr(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "logging": (
            logging.root.level,
            repr(logging.root.handlers),
            logging.root.disabled,
            logging.root.manager.disable,
        ),
        "numpy errors": repr(np.geterr()),
        "print": repr(np.get_printoptions()) + repr(torch._tensor_str.PRINT_OPTS),
        "hooks": (repr(sys.excepthook), repr(threading.excepthook), repr(sys.displayhook)),
        "recursion": sys.getrecursionlimit(),
        "streams": (id(sys.stdout), id(sys.stderr)),
        "python path": list(sys.path),
    }

def compared(before, what):
    after = state()
    for name, value in before.items():
        # Libraries that are imported on first use set filters of warnings of their own.
        settled = name != "filters" or what in ("encoding", "refusing", "generating again")
        if settled and after[name] != value:
            print(f"{what} changed {name}: {value} -> {after[name]}"[:400])
    return after
"""


def test_what_the_caller_has_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    program = f"""{_STATE}
torch.manual_seed(5); np.random.seed(6); random.seed(7)
one = state()
import melisma
melisma.load, melisma.Prompt, melisma.read_audio
one = compared(one, "importing")
pipeline = melisma.load({str(folder)!r})
pipeline.audio, pipeline.scores, pipeline.codec
one = compared(one, "loading")
result = pipeline.generate("a waltz", duration=1, seed=7, best_of=2, receipt=True)
one = compared(one, "generating")
result.save("a.wav", plot="a.png")
result.save("a.ogg")
one = compared(one, "saving")
score = pipeline.compose("a march", bars=2, best_of=2, seed=1)
one = compared(one, "composing")
score.save("a.mid", plot="b.png")
one = compared(one, "saving a score")
pipeline.decode(pipeline.encode("a.wav"))
one = compared(one, "encoding")
try:
    pipeline.generate("a waltz", duration=0)
except melisma.MelismaError:
    pass
one = compared(one, "refusing")
with torch.inference_mode():
    pipeline.generate("a waltz", duration=1, seed=7, best_of=1)
one = compared(one, "generating again")
print(float(torch.rand(1)), "first number")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    first = torch.rand(1, generator=torch.Generator().manual_seed(5)).item()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{first} first number"]


def test_threads_compose_what_one_alone_composes(folder: Path) -> None:
    pipeline = melisma.load(folder)
    words = [f"a march number {number}" for number in range(4)]
    torch.set_num_threads(2)
    alone = [pipeline.compose(one, bars=2, best_of=1, seed=1).score for one in words]
    found: dict[str, object] = {}

    def compose(one: str) -> None:
        found[one] = pipeline.compose(one, bars=2, best_of=1, seed=1).score

    threads = [threading.Thread(target=compose, args=(one,)) for one in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.get_num_threads() == 2
    for one, score in zip(words, alone, strict=True):
        assert repr(found[one]) == repr(score)


def test_sound_that_may_not_be_written_is_read(folder: Path) -> None:
    pipeline, sound = melisma.load(folder), tone()
    assert not sound.samples.flags.writeable
    before = sound.samples.copy()
    pipeline.encode(sound)
    pipeline.generate("a", duration=1, best_of=2, melody=sound, rank="receipt")
    pipeline.compose("a", best_of=1, melody=sound)
    np.testing.assert_array_equal(sound.samples, before)


def test_texts_in_a_list_are_prompts(folder: Path) -> None:
    pipeline = melisma.load(folder)
    one = pipeline.audio.generate_pieces(["a", Prompt(words="b")], best_of=1)
    two = pipeline.audio.generate_pieces((Prompt(words="a"), "b"), best_of=1)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.waveform.samples, second.waveform.samples)
    given = [ScorePrompt(words="a march", bars=1), ScorePrompt(words="b", bars=1)]
    scores = pipeline.scores.generate_pieces(given, best_of=1)
    assert [piece.prompt.words for piece in scores] == ["a march", "b"]


NOT_PROMPTS = [5, None, b"waltz", {"a": 1}, [None], ["a", 5], [b"a"], [["a"]], [], Prompt, object()]


@pytest.mark.parametrize("prompts", NOT_PROMPTS, ids=repr)
def test_what_is_no_prompt_is_refused(folder: Path, prompts: object) -> None:
    pipeline = melisma.load(folder)
    calls: list[Callable[[object], object]] = [
        pipeline.generate,  # pyright: ignore[reportAssignmentType]
        pipeline.compose,  # pyright: ignore[reportAssignmentType]
        pipeline.audio.generate_pieces,  # pyright: ignore[reportAssignmentType]
        pipeline.scores.generate_pieces,  # pyright: ignore[reportAssignmentType]
    ]
    for call in calls:
        with pytest.raises(MelismaError, match="prompt") as caught:
            call(prompts)
        assert isinstance(caught.value, TypeError) == (prompts != [])


@pytest.mark.parametrize("seed", [1.5, True, "1", None, -1, 2**32, 2**40, float("nan"), [1]])
def test_a_seed_that_the_command_line_refuses_is_refused(folder: Path, seed: object) -> None:
    pipeline = melisma.load(folder)
    for call in (pipeline.generate, pipeline.compose):
        with pytest.raises(MelismaError, match="seed is a whole number from 0 to 42949672"):
            call("a", seed=seed)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_numbers_of_numpy_are_numbers(folder: Path) -> None:
    pipeline = melisma.load(folder)
    seed, duration = np.int64(7), np.float32(1.0)
    found = pipeline.generate("a", seed=seed, duration=duration, best_of=np.int32(1))  # pyright: ignore[reportCallIssue, reportArgumentType]
    plain = pipeline.generate("a", seed=7, duration=1.0, best_of=1)
    np.testing.assert_array_equal(found.waveform.samples, plain.waveform.samples)


WRONG: list[tuple[str, dict[str, object]]] = [
    ("generate", {"duration": "long"}),
    ("generate", {"duration": True}),
    ("generate", {"duration": 10**400}),
    ("generate", {"duration": float("nan")}),
    ("generate", {"best_of": 1.5}),
    ("generate", {"best_of": 0}),
    ("generate", {"bpm": "fast"}),
    ("generate", {"key": 5}),
    ("generate", {"metre": 3}),
    ("generate", {"rank": 5}),
    ("generate", {"without": 5}),
    ("generate", {"without": None}),
    ("compose", {"without": 5}),
    ("generate", {"sampling": {"temperature": 1.0}}),
    ("generate", {"melody": 5}),
    ("generate", {"continue_from": [0.0, 0.1]}),
    ("generate", {"keep_seconds": "all", "continue_from": tone()}),
    ("compose", {"bars": 2.5}),
    ("compose", {"bars": "two"}),
    ("compose", {"time_signature": (3, 4, 5)}),
    ("compose", {"time_signature": 3}),
    ("compose", {"time_signature": ("3", "4")}),
    ("compose", {"instruments": ["flute"]}),
    ("compose", {"style": 5}),
    ("compose", {"continue_from": 5}),
    ("compose", {"melody": 5}),
    ("compose", {"infill": (1, 2, 3), "continue_from": "a.mid"}),
    ("encode", {"audio": 5}),
    ("encode", {"audio": tone(), "levels": 1.5}),
    ("decode", {"tokens": 5}),
]


@pytest.mark.parametrize(("verb", "values"), WRONG, ids=lambda one: str(one)[:40])
def test_values_of_other_types_are_refused_in_a_sentence(
    folder: Path, verb: str, values: dict[str, object]
) -> None:
    call = getattr(melisma.load(folder), verb)
    given = values if verb in ("encode", "decode") else {"prompts": "a", "seed": 1, **values}
    with pytest.raises(MelismaError):
        call(**given)


@pytest.mark.parametrize(
    "values",
    [{"threads": 0}, {"threads": 1.5}, {"precision": "int3"}, {"device": "tpu"}, {"device": 5}],
    ids=str,
)
def test_settings_of_loading_are_checked_at_once(folder: Path, values: dict[str, object]) -> None:
    with pytest.raises(MelismaError):
        melisma.load(folder, **values)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("device", ["cuda:99", "cuda"])
def test_a_device_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small_musicgen.written(tmp_path)
    with pytest.raises(MelismaError, match="there is no device"):
        melisma.load(tmp_path, device=device).generate("a slow piano", duration=1)


def test_names_are_not_logged_and_warnings_stay_silent(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(logging.root.handlers)
        melisma.load(folder).generate("a", duration=1, best_of=1).save(tmp_path / "a.wav")
    assert logging.root.handlers == before
    assert not [str(one.message) for one in caught]
    assert random.getstate() is not None
    assert os.listdir(tmp_path) == ["a.wav"]
