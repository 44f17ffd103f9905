"""Training recipes, from a folder of clips to a model folder: what `melisma train` runs.

`data/train` (and optionally `data/held`) are folders that `melisma prepare` wrote. In `output`
every part has its own folder with its training state, logs and samples; `output/model` is the model
folder that `melisma generate --model` loads. The recipe "all" skips parts that are finished.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from melisma.analysis.similarity import clip_index, melody_fingerprints
from melisma.data.audio_shards import AudioShards, read_audio_shards
from melisma.data.token_shards import encode_clips, is_rendered
from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.files.shards.lock import LOCK_NAME, locked, remove_all_leftovers
from melisma.generation.resolve import model_folder
from melisma.joint import JointEmbedding
from melisma.recipes import sizes
from melisma.recipes.clip_index import build_index, read_indexed_clips
from melisma.recipes.judges import measure_reference_of, measure_score_reference_of, train_judge_of
from melisma.recipes.names import PARTS, SIZES, present_key
from melisma.recipes.request import RunRequest, copy_file, frozen_tokenizers, ship_part
from melisma.recipes.score_fingerprints import FingerprintSettings, make_fingerprints
from melisma.recipes.score_shards import write_score_corpora
from melisma.recipes.settings import changed
from melisma.recipes.stages import run_single, run_stage, token_folder
from melisma.recipes.text_corpus import gather_sentences, train_words
from melisma.semantic import SemanticTokenizer
from melisma.tokenizers import TokenizerPaths, pool_trunk_states
from melisma.train.codec import train_codec
from melisma.train.datasets.captions import KINDS
from melisma.train.datasets.music import MusicFeatures, encode_music, split_by_group
from melisma.train.datasets.score import read_score_corpus
from melisma.train.initialization.memory import enough_memory
from melisma.train.joint import finetune_text, train_joint
from melisma.train.loop import STATE_FILE
from melisma.train.score import train_score
from melisma.train.semantic import instrument_labels, spectra_of, train_semantic
from melisma.train.text import read_text
from melisma.values.errors import MelismaError

HELD_SHARE = 0.08
"""Share of the works that are held out if the data has no folder of held-out clips."""


def run(
    recipe: str, *, data: Path, output: Path, resume: bool, changes: dict[str, str], device: str
) -> None:
    """Runs one recipe or, for "all", every part of the chain that is not finished yet.

    Args:
        recipe: one of `RECIPES`.
        data: the prepared data.
        output: the folder of the run.
        resume: whether a training may be continued: "all" in a folder that is not empty, a single
            part where its folder holds a training.
        changes: settings by their dotted names, and "size", "words", "start", "captions".
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        MelismaError: for an unknown setting, or one that does not fit the recipe; where a training
            is to be continued without `resume` or with other settings or data; where another
            process uses the folder.
    """
    changes = {present_key(key): value for key, value in changes.items()}
    size = changes.pop("size", "small")
    if size not in SIZES:
        raise MelismaError(f'no size "{size}": known are {", ".join(SIZES)}')
    words, start = changes.pop("words", None), changes.pop("start", None)
    captions = changes.pop("captions", None)
    if captions is not None and recipe != "single":
        raise MelismaError("captions can be chosen for the recipe single alone")
    if captions is not None and captions not in KINDS:
        raise MelismaError(f'no kind of captions "{captions}": known are {", ".join(KINDS)}')
    for name in changes:
        if name.partition(".")[0] not in (*RUNS, "score_rows"):
            raise MelismaError(
                f'no setting "{name}": here are size, words, start, captions, and those of '
                f"the parts {', '.join(RUNS)}, score_rows, e.g. codec.loop.updates=500"
            )
    request = RunRequest(
        data=data,
        output=output,
        size=size,
        changes=changes,
        device=chosen_device(device),
        words=None if words is None else Path(words),
        start=None if start is None else model_folder(start),
        captions=captions or "exact",
    )
    with locked(output):
        folder = output if recipe == "all" else request.part(recipe)
        if not resume and _holds_training(folder, recipe):
            raise MelismaError(
                f"{folder} holds a training already: add --resume, or choose another"
            )
        request.model.mkdir(parents=True, exist_ok=True)
        remove_all_leftovers(request.model)
        for name in PARTS if recipe == "all" else (recipe,):
            if recipe == "all" and request.weights(name).is_file() and name != "tokens":
                continue
            print(f"== {name} ==", flush=True)
            with enough_memory(name):
                RUNS[name](request)


def _holds_training(folder: Path, recipe: str) -> bool:
    """Whether there is something that a recipe would continue."""
    if recipe == "all":
        return any(path.name != LOCK_NAME for path in folder.iterdir())
    return (folder / STATE_FILE).is_file()


def chosen_device(device: str) -> str:
    """Resolves "auto": the GPU if there is one, else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def both_audio_shards(request: RunRequest) -> tuple[AudioShards, AudioShards]:
    """(training, held-out) clips; the training clips twice if there are no held-out ones."""
    train = request.data / "train" if (request.data / "train").is_dir() else request.data
    held = request.data / "held"
    return read_audio_shards(train), read_audio_shards(held if held.is_dir() else train)


def run_codec(request: RunRequest) -> None:
    """Trains the codec."""
    train, held = both_audio_shards(request)
    settings = changed(sizes.codec(request.size), request.changes, "codec")
    settings = dataclasses.replace(settings, device=request.device)
    start = request.started_from("codec")
    train_codec(settings, train.sound, held.sound, request.part("codec"), start)
    ship_part(request, "codec")


def run_finetune_codec(request: RunRequest) -> None:
    """Fine-tunes the codec's decoder; tokens do not change, so all other parts stay valid."""
    train, held = both_audio_shards(request)
    settings = changed(sizes.finetune_codec(request.size), request.changes, "finetune_codec")
    settings = dataclasses.replace(settings, device=request.device)
    start = read_checkpoint(request.weights("codec")).tensors
    folder = request.part("finetune_codec")
    train_codec(settings, train.sound, held.sound, folder, start)
    checkpoint = read_checkpoint(folder / "weights.safetensors", kind="codec")
    write_checkpoint(request.weights("codec"), checkpoint)


def run_semantic(request: RunRequest) -> None:
    """Trains the semantic encoder and clusters its bottleneck."""
    train, held = both_audio_shards(request)
    settings = changed(sizes.semantic(request.size), request.changes, "semantic")
    settings = dataclasses.replace(settings, device=request.device)
    train_semantic(
        settings,
        spectra_of(train.sound, instrument_labels(train), request.device),
        spectra_of(held.sound[:1], instrument_labels(held)[:1], request.device),
        request.part("semantic"),
        request.started_from("semantic"),
    )
    ship_part(request, "semantic")


def run_text(request: RunRequest) -> None:
    """Trains the text tower alone."""
    settings = changed(sizes.text(request.size), request.changes, "text")
    train_words(settings, request.words, request.part("text"), few=request.size == "toy")
    ship_part(request, "text", source=request.part("text") / "text.safetensors")


def music_features(
    request: RunRequest, tokenizer: SemanticTokenizer
) -> tuple[MusicFeatures, MusicFeatures]:
    """(training, held-out) features of clips for the music tower, computed once and cached."""
    train, held = both_audio_shards(request)
    folder = request.part("joint")

    def states_of(sound: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(pool_trunk_states(tokenizer.encode_states(sound), 0, 250))

    features = encode_music(train, states_of, folder / "train.npz")
    if (request.data / "held").is_dir():
        return features, encode_music(held, states_of, folder / "held.npz")
    return split_by_group(train, features, HELD_SHARE, 0)


def run_joint(request: RunRequest) -> None:
    """Trains both towers of the joint embedding."""
    tokenizer = SemanticTokenizer.read(request.weights("semantic"), request.device)
    features, held_out = music_features(request, tokenizer)
    text, text_tokenizer = read_text(request.weights("text"))
    settings = sizes.joint(request.size, tokenizer.settings.width)
    settings = changed(settings, request.changes, "joint")
    joint = train_joint(settings, features, held_out, text, text_tokenizer, request.part("joint"))
    joint.semantic_fingerprint = tokenizer.fingerprint
    joint.write(request.weights("joint"), precision="float16")


def run_finetune_text(request: RunRequest) -> None:
    """Fine-tunes the text tower; the music tower and its tokens do not change."""
    tokenizer = SemanticTokenizer.read(request.weights("semantic"), request.device)
    features, held_out = music_features(request, tokenizer)
    joint = JointEmbedding.read(request.weights("joint"))
    settings = sizes.finetune_text(request.size, joint.music.settings)
    settings = changed(settings, request.changes, "finetune_text")
    folder, few = request.part("finetune_text"), request.size == "toy"
    replay = gather_sentences(request.words, folder, settings.loop.seed, few=few).rows
    finetuned = finetune_text(settings, joint, features, held_out, folder, replay)
    finetuned.write(request.weights("joint"), precision="float16")


def run_tokens(request: RunRequest) -> None:
    """Encodes the training clips; `melisma prepare --tokens` renders more and longer ones.

    Tokens that `melisma prepare` wrote are left as they are.
    """
    folder = request.part("tokens")
    if not is_rendered(folder):
        train, _ = both_audio_shards(request)
        encode_clips(folder, train, frozen_tokenizers(request))


def run_index(request: RunRequest) -> None:
    """Builds the index of the language model's training clips, with limits of similarity.

    `data/held_tokens`, if it exists, has token shards of the held-out split.
    """
    paths = TokenizerPaths.of(request.model_with("joint"))
    joint, semantic = JointEmbedding.read(paths.joint), SemanticTokenizer.read(paths.semantic)
    fingerprints = {"semantic": semantic.fingerprint, "joint": joint.fingerprint}
    held = request.data / "held_tokens"
    index = build_index(
        read_indexed_clips(token_folder(request), joint, fingerprints),
        read_indexed_clips(held, joint, fingerprints) if held.is_dir() else None,
        fingerprints,
        HELD_SHARE,
    )
    index.write(request.weights(clip_index.KIND))
    for limit in index.limits:
        print(
            f"{limit.pieces} held-out clips of {limit.piece_seconds:g} s against {len(index)}: "
            f"99 % share {limit.run_seconds:.2f} s or less, agree in {limit.agreement:.2f} of the "
            f"frames of 5 s or less, cosine {limit.similarity:.3f} or less"
        )


def run_judge(request: RunRequest) -> None:
    """Trains the independent judge on `data/judge`: clips of the judge's split and soundfonts."""
    settings, training = sizes.judge(request.size)
    training = changed(training, request.changes, "judge")
    train_judge_of(request.data / "judge", request.model, settings, training)
    # Rounded as it will be shipped, so that references are measured by exactly the shipped judge.
    judge = request.weights("judge")
    write_checkpoint(judge, read_checkpoint(judge), precision="int8")


def run_reference(request: RunRequest) -> None:
    """Measures the audio reference set on `data/reference`: clips of the held-out split."""
    model = request.model_with("codec")
    measure_reference_of(request.data / "reference", model, request.model)


def run_score_reference(request: RunRequest) -> None:
    """Measures the score reference set on held-out pieces of a folder of notation corpora."""
    model = request.model_with(melody_fingerprints.KIND)
    measure_score_reference_of(request.data, model, request.model, request.splits)


def run_score(request: RunRequest) -> None:
    """Trains the score model on a folder of notation corpora, or of any MIDI files."""
    settings = changed(sizes.score(request.size), request.changes, "score")
    settings = dataclasses.replace(settings, device=request.device)
    rows = changed(sizes.score_rows(request.size), request.changes, "score_rows")
    joint = request.weights("joint")
    if not joint.is_file():
        copy_file(request.model_with("joint") / joint.name, joint)
    folder = request.part("score")
    write_score_corpora(request.data, folder, rows)
    text = JointEmbedding.read(joint)
    train_score(
        settings,
        read_score_corpus(folder / "train", text),
        read_score_corpus(folder / "held", text),
        folder,
        request.started_from("score_lm"),
    )
    ship_part(request, "score_lm", source=folder / "weights.safetensors")


def run_fingerprints(request: RunRequest) -> None:
    """Takes fingerprints of the score model's training pieces, with limits of similarity."""
    settings = changed(FingerprintSettings(), request.changes, "fingerprints")
    fingerprints = make_fingerprints(request.data, request.splits, settings)
    fingerprints.write(request.weights(melody_fingerprints.KIND))


TOKEN_TENSORS: dict[str, tuple[str, ...]] = {
    "codec": ("encoder.", "quantizer."),
    "semantic": ("",),
    "joint": ("music.", "quantiser.", "tokenizer"),
    "semantic_lm": (),
    "coarse_lm": (),
    "fine_lm": (),
    "score_lm": (),
}
"""Prefixes of the tensors that determine tokens, by part: shipped in the precision in which the
tokenizers were frozen."""
COPIED_PARTS = (
    clip_index.KIND,
    melody_fingerprints.KIND,
    "judge",
    "reference",
    "score_reference",
)
"""Parts that are copied unchanged: small already, and a reference belongs to exactly one judge."""


def ship(folder: Path, target: Path) -> None:
    """Exports a model folder in compressed form: int8 weights, float16 where they determine tokens.

    The tokenizers were rounded to float16 before any token was made. The text tower keeps its
    precision, too, if a stage is conditioned on its states.

    Args:
        folder: the model folder.
        target: the folder to write to.

    Raises:
        FileNotFoundError: where `folder` has no part of a model.
    """
    if not any((folder / f"{name}.safetensors").is_file() for name in TOKEN_TENSORS):
        raise FileNotFoundError(f"there is no model in {folder}: train one first")
    target.mkdir(parents=True, exist_ok=True)
    coarse = folder / "coarse_lm.safetensors"
    reads_text = coarse.is_file() and "words" in read_checkpoint(coarse).fingerprints
    for name, exact in TOKEN_TENSORS.items():
        path = folder / f"{name}.safetensors"
        if path.is_file():
            checkpoint = read_checkpoint(path)
            exact = (*exact, "text.") if reads_text and name == "joint" else exact
            write_checkpoint(target / path.name, checkpoint, precision="int8", exact=exact)
    for name in COPIED_PARTS:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            copy_file(path, target / path.name)


def run_ship(request: RunRequest) -> None:
    """Exports the run's model in compressed form into `shipped` beside it."""
    ship(request.model, request.output / "shipped")


RUNS: dict[str, Callable[[RunRequest], Any]] = {
    "codec": run_codec,
    "finetune_codec": run_finetune_codec,
    "finetune_text": run_finetune_text,
    "semantic": run_semantic,
    "text": run_text,
    "joint": run_joint,
    "tokens": run_tokens,
    "semantic_lm": lambda request: run_stage(request, "semantic"),
    "coarse_lm": lambda request: run_stage(request, "coarse"),
    "fine_lm": lambda request: run_stage(request, "fine"),
    "single": run_single,
    "score": run_score,
    "index": run_index,
    "fingerprints": run_fingerprints,
    "judge": run_judge,
    "reference": run_reference,
    "score_reference": run_score_reference,
    "ship": run_ship,
}
