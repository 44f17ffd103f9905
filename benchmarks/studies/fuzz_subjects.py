"""What is fuzzed: every reader of files from outside, and every command that reads one.

`readers(place)` and `commands(place)` write small valid files below a folder and return `Subject`s.
Each has valid files, a mutation for them, and a function that reads a mutated one; that function
may raise `MelismaError` and `OSError`, and nothing else. Commands run in this process by their
command line and may end with the codes of `melisma.cli.errors`.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.mutations import (
    Mutation,
    mutated_bytes,
    mutated_json,
    mutated_lines,
    mutated_safetensors,
    mutated_tokens,
    words,
)
from studies.valid_files import (
    card_files,
    index_files,
    list_files,
    model_folder,
    musicgen_folder,
    reference_files,
    score_files,
    sound_files,
    soundfont_file,
    token_file,
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One reader or command."""

    name: str
    files: tuple[Path, ...]
    """Valid files; one of them is mutated, and the function gets its path."""
    mutate: Mutation
    read: Callable[[Path], object]
    """Reads a file; also called with the valid ones, which it must accept."""
    weight: int = 1
    """How often it is chosen, relative to the others."""


def readers(place: Path) -> list[Subject]:
    """Every reader, with valid files below a folder."""
    model = model_folder(place / "model")
    return [*_music(place, model), *_models(place, model), *_documents(place)]


def _music(place: Path, model: Path) -> list[Subject]:
    """Readers of sound, scores, tokens and soundfonts."""
    from melisma.files import read_audio, read_provenance, read_tokens
    from melisma.generation.loading import load_codec
    from melisma.symbolic import write_midi
    from melisma.symbolic.midi import midi_bytes, read_midi
    from melisma.symbolic.render import RenderSettings, render_score
    from melisma.symbolic.tags import read_midi_tags, write_midi_tags

    sounds, scores = sound_files(place / "sounds"), score_files(place / "scores")
    codec = load_codec(model)
    tune = read_midi(scores[0].read_bytes())

    def score(path: Path) -> object:
        found = read_midi(midi_bytes(path))
        tags = read_midi_tags(path.read_bytes())
        return write_midi_tags(write_midi(found), tags or {})

    def soundfont(path: Path) -> object:
        return render_score(tune, RenderSettings(soundfont=path, engine="own"))

    return [
        Subject(name="midi", files=scores, mutate=mutated_bytes, read=score, weight=6),
        Subject(name="sound", files=sounds, mutate=mutated_bytes, read=read_audio, weight=4),
        Subject(
            name="provenance", files=sounds[:4], mutate=mutated_bytes, read=read_provenance,
            weight=4,
        ),
        Subject(
            name="tokens",
            files=(token_file(place / "tokens", model),),
            mutate=mutated_tokens,
            read=lambda path: codec.decode(read_tokens(path)),
            weight=3,
        ),
        Subject(
            name="soundfont", files=(soundfont_file(place / "soundfonts"),), mutate=mutated_bytes,
            read=soundfont,
        ),
    ]  # fmt: skip


def _models(place: Path, model: Path) -> list[Subject]:
    """Readers of checkpoints and of folders of models."""
    from melisma.analysis.similarity.clip_index import ClipIndex
    from melisma.analysis.similarity.melody_fingerprints import MelodyFingerprints
    from melisma.codec import AcousticCodec
    from melisma.evaluate.models.judge import Judge
    from melisma.evaluate.references.audio import read_reference
    from melisma.evaluate.references.score import read_score_reference
    from melisma.files.checkpoint import read_checkpoint
    from melisma.generation.catalogue import facts_of
    from melisma.generation.loading import read_score_model, read_stage
    from melisma.joint import JointEmbedding
    from melisma.semantic import SemanticTokenizer

    clips, melodies = index_files(place / "indexes")
    sound_reference, score_reference, _ = reference_files(place / "references")
    judge = place / "judge"
    judge.mkdir(exist_ok=True)
    shutil.copy(_shipped() / "judge.safetensors", judge / "judge.safetensors")
    stages = tuple(model / f"{name}.safetensors" for name in ("semantic_lm", "coarse_lm"))

    def one(name: str, file: Path, read: Callable[[Path], object]) -> Subject:
        return Subject(name=name, files=(file,), mutate=mutated_safetensors, read=read)

    def facts(path: Path) -> object:
        """The model that the file stands for, in a folder with its other files."""
        return facts_of(_beside(path, model))

    subjects = [
        Subject(
            name="checkpoint",
            files=(*stages, clips, melodies),
            mutate=mutated_safetensors,
            read=read_checkpoint,
            weight=2,
        ),
        Subject(
            name="stage",
            files=stages,
            mutate=mutated_safetensors,
            read=lambda path: read_stage(path, {}),
            weight=2,
        ),
        Subject(name="facts", files=stages, mutate=mutated_safetensors, read=facts, weight=2),
        one("codec", model / "codec.safetensors", AcousticCodec.read),
        one("semantic", model / "semantic.safetensors", SemanticTokenizer.read),
        one("joint", model / "joint.safetensors", JointEmbedding.read),
        one("score model", model / "score_lm.safetensors", read_score_model),
        one("judge", judge / "judge.safetensors", lambda path: Judge.read(path.parent)),
        one("clip index", clips, ClipIndex.read),
        one("melodies", melodies, MelodyFingerprints.read),
        one("reference", sound_reference, read_reference),
        one("score reference", score_reference, read_score_reference),
    ]
    published = musicgen_folder(place / "musicgen")
    if published is not None:
        for folder in (published / "plain", published / "melody"):
            subjects += _published(folder)
    return subjects


def _published(folder: Path) -> list[Subject]:
    """Readers of a checkpoint in the layout of transformers."""
    from melisma.generation.loading import load

    def read(path: Path) -> object:
        return load(_beside(path, folder), device="cpu")

    settings = ("config.json", "tokenizer.json", "tokenizer_config.json")
    weights = (folder / "model.safetensors",)
    return [
        Subject(name="published", files=weights, mutate=mutated_safetensors, read=read),
        Subject(
            name="published settings",
            files=tuple(folder / name for name in settings),
            mutate=mutated_json,
            read=read,
        ),
    ]


def _documents(place: Path) -> list[Subject]:
    """Readers of cards, figures and lists."""
    from melisma.cli.arguments import gather_prompts
    from melisma.evaluate.metrics.adherence import read_requests
    from melisma.evaluate.metrics.figures import read_figures
    from melisma.evaluate.metrics.score_adherence import read_score_requests, score_prompts_file
    from melisma.evaluate.prompts import read_prompts
    from melisma.evaluate.report.card import read_card
    from melisma.evaluate.report.comparison import compare_cards
    from melisma.evaluate.report.html import comparison_page, report_page

    cards, lists = card_files(place / "cards"), list_files(place / "lists")
    plain = read_card(cards[1])
    figures = reference_files(place / "references")[2]
    stated = Path(__file__).parents[1] / "prompts" / "stated_prompts.jsonl"

    def page(path: Path) -> object:
        card = read_card(path)
        return report_page(card), comparison_page(card, plain, compare_cards(card, plain))

    return [
        Subject(name="card", files=cards, mutate=mutated_json, read=page, weight=4),
        Subject(name="figures", files=(figures,), mutate=mutated_json, read=read_figures),
        Subject(name="prompts", files=lists, mutate=mutated_lines, read=read_prompts, weight=3),
        Subject(name="requests", files=(stated,), mutate=mutated_lines, read=read_requests),
        Subject(
            name="score requests",
            files=(score_prompts_file(),),
            mutate=mutated_lines,
            read=read_score_requests,
        ),
        Subject(
            name="prompt file",
            files=lists[:1],
            mutate=mutated_bytes,
            read=lambda path: gather_prompts([], path),
        ),
    ]


def _shipped() -> Path:
    from melisma.generation.resolve import SHIPPED

    return SHIPPED / "default"


def _beside(path: Path, model: Path) -> Path:
    """A folder with links to the files of a model, but for one, which is another file."""
    folder = path.parent / "folder"
    folder.mkdir(exist_ok=True)
    for own in model.iterdir():
        place = folder / own.name
        if place.is_symlink() or place.exists():
            place.unlink()
        place.symlink_to(path if own.name == path.name else own)
    return folder


def call(*arguments: str | os.PathLike[str]) -> int:
    """Runs a command line in this process, without its output.

    Returns:
        The exit code; an exception leaves it as it is, and is a fault of the program.
    """
    from melisma.cli.errors import run
    from melisma.cli.program import program

    quiet = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        code = run(program, [os.fspath(one) for one in arguments])
    quiet.seek(0)
    if "Traceback (most recent call last)" in quiet.read():
        raise AssertionError("a traceback was printed")
    if code not in (0, 2):
        raise AssertionError(f"the exit code is {code}")
    return code


def commands(place: Path) -> list[Subject]:
    """Every command that reads a file or words."""
    model = model_folder(place / "model")
    sounds, scores = sound_files(place / "sounds"), score_files(place / "scores")
    cards = card_files(place / "cards")
    tokens = token_file(place / "tokens", model)
    lists = list_files(place / "lists")
    out = place / "out"
    out.mkdir(exist_ok=True)
    brief = ("--seed", "1", "--best-of", "1", "--quiet")
    sing = ("generate", "a waltz", "--duration", "1", "--output", out / "a.wav", *brief)
    write = ("compose", "a waltz", "--bars", "1", "--output", out / "a.mid", *brief)

    def of_each(*ways: Sequence[str | os.PathLike[str]]) -> Callable[[Path], object]:
        """A function that takes one of the ways, by the file's content; PATH stands for it."""

        def read(path: Path) -> object:
            way = ways[zlib.crc32(path.read_bytes()) % len(ways)]
            return call(*(path if one == "PATH" else one for one in way))

        return read

    def in_folder(path: Path) -> object:
        folder = _beside(path, model)
        pick = path.stat().st_size % 4
        if pick == 0:
            return call(*write, "--model", folder)
        if pick == 1:
            return call("encode", sounds[0], "--model", folder, "--output", out / "b.mlt")
        return call(*sing, "--model", folder)

    def spoken(path: Path) -> object:
        text = path.read_text("utf-8", "surrogatepass")
        if len(text) % 2:
            return call(*(text if one == "a waltz" else one for one in write), "--model", model)
        return call(*(text if one == "a waltz" else one for one in sing), "--model", model)

    prompt = lists[0].parent / "prompt.txt"
    prompt.write_text("a slow waltz", "utf-8")
    return [
        Subject(
            name="midi",
            files=scores,
            mutate=mutated_bytes,
            read=of_each(
                ("inspect", "PATH", "--json"),
                ("render", "PATH", "--output", out / "r.wav", "--quiet"),
                (*write, "--model", model, "--continue-from", "PATH"),
                (*write, "--model", model, "--melody", "PATH"),
            ),
            weight=4,
        ),
        Subject(
            name="sound",
            files=sounds,
            mutate=mutated_bytes,
            read=of_each(
                ("inspect", "PATH", "--json"),
                ("encode", "PATH", "--model", model, "--output", out / "c.mlt"),
                (*sing, "--model", model, "--continue-from", "PATH"),
                (*sing, "--model", model, "--melody", "PATH"),
            ),
            weight=4,
        ),
        Subject(
            name="tokens",
            files=(tokens,),
            mutate=mutated_tokens,
            read=of_each(
                ("inspect", "PATH"),
                ("decode", "PATH", "--model", model, "--output", out / "d.wav"),
            ),
            weight=2,
        ),
        Subject(
            name="model folder",
            files=tuple(sorted(model.glob("*.safetensors"))),
            mutate=mutated_safetensors,
            read=in_folder,
            weight=4,
        ),
        Subject(
            name="checkpoint",
            files=tuple(sorted(model.glob("*.safetensors"))),
            mutate=mutated_safetensors,
            read=of_each(("inspect", "PATH"), ("inspect", "PATH", "--json")),
            weight=2,
        ),
        Subject(
            name="card",
            files=cards,
            mutate=mutated_json,
            read=of_each(
                ("evaluate", "--page", "PATH", "--output", out / "page"),
                ("evaluate", "--compare", cards[1], "PATH", "--output", out / "page"),
            ),
            weight=4,
        ),
        Subject(
            name="prompt",
            files=(prompt,),
            mutate=lambda _, rng: words(rng).encode("utf-8", "surrogatepass"),
            read=spoken,
            weight=3,
        ),
        Subject(
            name="list of prompts",
            files=lists[:1],
            mutate=mutated_bytes,
            read=of_each((*sing[:1], *sing[2:], "--model", model, "--prompts", "PATH", "--json")),
        ),
    ]
