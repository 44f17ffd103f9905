"""From a folder of clips to a model's folder: the whole chain on one page.

`data/train` (and `data/held`, if there is one) are folders that `melisma prepare` wrote. In
`output` every part has a folder of its own with its training state, logs and samples;
`output/model` holds what `melisma generate --model` loads. A part that is finished is not trained
again.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from melisma.analysis.similarity import clip_index, melody_fingerprints
from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.data.token_shards import encode_clips
from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.generation.loading import model_folder
from melisma.joint import Joint
from melisma.recipes import sizes
from melisma.recipes.clip_index import build_index, read_indexed_clips
from melisma.recipes.judges import measure_reference_of, measure_score_reference_of, train_judge_of
from melisma.recipes.names import PARTS, SIZES
from melisma.recipes.request import RunRequest, frozen_tokenizers, ship_part
from melisma.recipes.score_fingerprints import FingerprintSettings, make_fingerprints
from melisma.recipes.score_shards import write_score_corpora
from melisma.recipes.settings import changed
from melisma.recipes.stages import run_single, run_stage, token_folder
from melisma.recipes.text_corpus import gather_sentences, train_words
from melisma.semantic import SemanticTokenizer
from melisma.tokenizers import TokenizerPaths, trunk_states
from melisma.train.codec import train_codec
from melisma.train.datasets.captions import KINDS
from melisma.train.datasets.music import MusicFeatures, encode_music, split_by_group
from melisma.train.datasets.score import read_score_corpus
from melisma.train.joint import finetune_text, train_joint
from melisma.train.score import train_score
from melisma.train.semantic import instrument_labels, spectra_of, train_semantic
from melisma.train.text import read_text

HELD_SHARE = 0.08
"""Share of the works that are held out where the data has no folder of its own for them."""


def run(
    recipe: str, *, data: Path, output: Path, resume: bool, changes: dict[str, str], device: str
) -> None:
    """Runs one part or, for "all", every part that is not finished yet."""
    size = changes.pop("size", "small")
    if size not in SIZES:
        raise ValueError(f'no size "{size}": known are {", ".join(SIZES)}')
    words, start = changes.pop("words", None), changes.pop("start", None)
    captions = changes.pop("captions", None)
    if captions is not None and recipe != "single":
        raise ValueError("captions are chosen for the recipe single alone")
    if captions is not None and captions not in KINDS:
        raise ValueError(f'no kind of captions "{captions}": known are {", ".join(KINDS)}')
    for name in changes:
        if name.partition(".")[0] not in (*RUNS, "score_rows"):
            raise ValueError(
                f'no setting "{name}": here are size, words, start, captions, and those of '
                f"the parts {', '.join(RUNS)}, score_rows, e.g. codec.loop.updates=500"
            )
    order = RunRequest(
        data=data,
        output=output,
        size=size,
        changes=changes,
        device=chosen_device(device),
        words=None if words is None else Path(words),
        start=None if start is None else model_folder(start),
        captions=captions or "exact",
    )
    if output.exists() and any(output.iterdir()) and not resume and recipe == "all":
        raise ValueError(f"{output} holds a training already: add --resume, or choose another")
    order.model.mkdir(parents=True, exist_ok=True)
    for name in PARTS if recipe == "all" else (recipe,):
        if recipe == "all" and order.weights(name).is_file() and name != "tokens":
            continue
        print(f"== {name} ==", flush=True)
        RUNS[name](order)


def chosen_device(device: str) -> str:
    """ "auto" takes the GPU where there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def both_audio_shards(order: RunRequest) -> tuple[AudioShards, AudioShards]:
    """(training, held-out) clips."""
    train = order.data / "train" if (order.data / "train").is_dir() else order.data
    held = order.data / "held"
    return read_audio_shards(train), read_audio_shards(held if held.is_dir() else train)


def run_codec(order: RunRequest) -> None:
    """Codec."""
    train, held = both_audio_shards(order)
    settings = changed(sizes.codec(order.size), order.changes, "codec")
    settings = dataclasses.replace(settings, device=order.device)
    start = order.started_from("codec")
    train_codec(settings, train.sound, held.sound, order.part("codec"), start)
    ship_part(order, "codec")


def run_finetune_codec(order: RunRequest) -> None:
    """Decoder polishing: the tokens stay what they are, so no other part is invalidated."""
    train, held = both_audio_shards(order)
    settings = changed(sizes.finetune_codec(order.size), order.changes, "polish")
    settings = dataclasses.replace(settings, device=order.device)
    start = read_checkpoint(order.weights("codec")).tensors
    train_codec(settings, train.sound, held.sound, order.part("polish"), start)
    checkpoint = read_checkpoint(order.part("polish") / "weights.safetensors", kind="codec")
    write_checkpoint(order.weights("codec"), checkpoint)


def run_semantic(order: RunRequest) -> None:
    """Semantic encoder and its clusters."""
    train, held = both_audio_shards(order)
    settings = changed(sizes.semantic(order.size), order.changes, "semantic")
    settings = dataclasses.replace(settings, device=order.device)
    train_semantic(
        settings,
        spectra_of(train.sound, instrument_labels(train), order.device),
        spectra_of(held.sound[:1], instrument_labels(held)[:1], order.device),
        order.part("semantic"),
        order.started_from("semantic"),
    )
    ship_part(order, "semantic")


def run_text(order: RunRequest) -> None:
    """Text tower alone."""
    settings = changed(sizes.text(order.size), order.changes, "text")
    train_words(settings, order.words, order.part("text"), few=order.size == "toy")
    ship_part(order, "text", source=order.part("text") / "text.safetensors")


def music_features(
    order: RunRequest, tokenizer: SemanticTokenizer
) -> tuple[MusicFeatures, MusicFeatures]:
    """(training, held-out) clips as the music tower hears them, heard once."""
    train, held = both_audio_shards(order)
    folder = order.part("joint")

    def states_of(sound: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(trunk_states(tokenizer.encode_states(sound), 0, 250))

    heard = encode_music(train, states_of, folder / "train.npz")
    if (order.data / "held").is_dir():
        return heard, encode_music(held, states_of, folder / "held.npz")
    return split_by_group(train, heard, HELD_SHARE, 0)


def run_joint(order: RunRequest) -> None:
    """Words and sound together."""
    tokenizer = SemanticTokenizer.read(order.weights("semantic"), order.device)
    heard, apart = music_features(order, tokenizer)
    text, words = read_text(order.weights("text"))
    settings = sizes.joint(order.size, tokenizer.settings.width)
    settings = changed(settings, order.changes, "joint")
    joint = train_joint(settings, heard, apart, text, words, order.part("joint"))
    joint.semantic_fingerprint = tokenizer.fingerprint
    joint.write(order.weights("joint"), precision="float16")


def run_finetune_text(order: RunRequest) -> None:
    """Text polishing: the music tower and its tokens stay what they are."""
    tokenizer = SemanticTokenizer.read(order.weights("semantic"), order.device)
    heard, apart = music_features(order, tokenizer)
    joint = Joint.read(order.weights("joint"))
    settings = sizes.finetune_text(order.size, joint.music.settings)
    settings = changed(settings, order.changes, "polish_text")
    folder, few = order.part("polish_text"), order.size == "toy"
    lessons = gather_sentences(order.words, folder, settings.loop.seed, few=few).rows
    polished = finetune_text(settings, joint, heard, apart, folder, lessons)
    polished.write(order.weights("joint"), precision="float16")


def run_tokens(order: RunRequest) -> None:
    """The clips of the ears as tokens; `melisma prepare --model` renders more and longer ones."""
    folder = order.part("tokens")
    if not (folder / "index.jsonl").exists():
        train, _ = both_audio_shards(order)
        encode_clips(folder, train, frozen_tokenizers(order))


def run_index(order: RunRequest) -> None:
    """The index of the clips that the language model learned from, and how near others come.

    `data/held_tokens`, if it is there, are token shards of the split held.
    """
    paths = TokenizerPaths.of(order.model_with("joint"))
    joint, semantic = Joint.read(paths.joint), SemanticTokenizer.read(paths.semantic)
    prints = {"semantic": semantic.fingerprint, "joint": joint.fingerprint}
    held = order.data / "held_tokens"
    index = build_index(
        read_indexed_clips(token_folder(order), joint, prints),
        read_indexed_clips(held, joint, prints) if held.is_dir() else None,
        prints,
        HELD_SHARE,
    )
    index.write(order.weights(clip_index.KIND))
    for limit in index.limits:
        print(
            f"{limit.pieces} held-out clips of {limit.piece_seconds:g} s against {len(index)}: "
            f"99 % share {limit.run_seconds:.2f} s or less, agree in {limit.agreement:.2f} of the "
            f"frames of 5 s or less, cosine {limit.similarity:.3f} or less"
        )


def run_judge(order: RunRequest) -> None:
    """The independent judge, from `data/judge`: clips of the split judge, other soundfonts."""
    settings, training = sizes.judge(order.size)
    training = changed(training, order.changes, "judge")
    train_judge_of(order.data / "judge", order.model, settings, training)
    # Rounded as it will be shipped, so that references are measured by just this judge.
    judge = order.weights("judge")
    write_checkpoint(judge, read_checkpoint(judge), precision="int8")


def run_reference(order: RunRequest) -> None:
    """The reference set of sound, from `data/reference`: clips of the split held, small world."""
    model = order.model_with("codec")
    measure_reference_of(order.data / "reference", model, order.model)


def run_score_reference(order: RunRequest) -> None:
    """The reference of scores, from a folder of corpora of notation."""
    model = order.model_with(melody_fingerprints.KIND)
    measure_score_reference_of(order.data, model, order.model, order.splits)


def run_score(order: RunRequest) -> None:
    """The score model, from a folder of corpora of notation or of any MIDI files."""
    settings = changed(sizes.score(order.size), order.changes, "score")
    settings = dataclasses.replace(settings, device=order.device)
    rows = changed(sizes.score_rows(order.size), order.changes, "score_rows")
    joint = order.weights("joint")
    if not joint.is_file():
        shutil.copyfile(order.model_with("joint") / joint.name, joint)
    folder = order.part("score")
    write_score_corpora(order.data, folder, rows)
    text = Joint.read(joint)
    train_score(
        settings,
        read_score_corpus(folder / "train", text),
        read_score_corpus(folder / "held", text),
        folder,
        order.started_from("score_lm"),
    )
    ship_part(order, "score_lm", source=folder / "weights.safetensors")


def run_fingerprints(order: RunRequest) -> None:
    """Prints of the pieces that the score model learned from, and how near others come."""
    settings = changed(FingerprintSettings(), order.changes, "prints")
    prints = make_fingerprints(order.data, order.splits, settings)
    prints.write(order.weights(melody_fingerprints.KIND))


DECIDING: dict[str, tuple[str, ...]] = {
    "codec": ("encoder.", "quantizer."),
    "semantic": ("",),
    "joint": ("music.", "quantiser.", "tokenizer"),
    "semantic_lm": (),
    "coarse_lm": (),
    "fine_lm": (),
    "score_lm": (),
}
"""Tensors that decide tokens, by the beginning of their names: shipped as they were frozen."""
SHIPPED_AS_THEY_ARE = (
    clip_index.KIND,
    melody_fingerprints.KIND,
    "judge",
    "reference",
    "score_reference",
)
"""What is small in the run's own model already; a reference belongs to just the judge beside it."""


def ship(folder: Path, target: Path) -> None:
    """Writes a model's folder as weights to pass on: int8 rows, what decides tokens as float16.

    The ears were rounded to float16 when they were kept, before tokens were made by them. The text
    tower of a stage that is told captions stays as that stage read it.
    `FileNotFoundError` where the folder holds no part of a model.
    """
    if not any((folder / f"{name}.safetensors").is_file() for name in DECIDING):
        raise FileNotFoundError(f"there is no model in {folder}: train one first")
    target.mkdir(parents=True, exist_ok=True)
    coarse = folder / "coarse_lm.safetensors"
    reads = coarse.is_file() and "words" in read_checkpoint(coarse).fingerprints
    for name, exact in DECIDING.items():
        path = folder / f"{name}.safetensors"
        if path.is_file():
            checkpoint = read_checkpoint(path)
            exact = (*exact, "text.") if reads and name == "joint" else exact
            write_checkpoint(target / path.name, checkpoint, precision="int8", exact=exact)
    for name in SHIPPED_AS_THEY_ARE:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            shutil.copyfile(path, target / path.name)


def run_ship(order: RunRequest) -> None:
    """The run's model as small as the shipped ones, into `shipped` beside it."""
    ship(order.model, order.output / "shipped")


RUNS: dict[str, Callable[[RunRequest], Any]] = {
    "codec": run_codec,
    "polish": run_finetune_codec,
    "polish_text": run_finetune_text,
    "semantic": run_semantic,
    "text": run_text,
    "joint": run_joint,
    "tokens": run_tokens,
    "semantic_lm": lambda order: run_stage(order, "semantic"),
    "coarse_lm": lambda order: run_stage(order, "coarse"),
    "fine_lm": lambda order: run_stage(order, "fine"),
    "single": run_single,
    "score": run_score,
    "index": run_index,
    "prints": run_fingerprints,
    "judge": run_judge,
    "reference": run_reference,
    "score_reference": run_score_reference,
    "ship": run_ship,
}
