"""The stages of the language model: from token shards to weights in the model's folder."""

from __future__ import annotations

import dataclasses
import filecmp
import shutil
from pathlib import Path

import numpy as np
import torch

from melisma.files.atomic import replacing
from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.lm import TokenModel
from melisma.recipes import sizes
from melisma.recipes.request import TOKENIZERS, RunRequest, frozen_tokenizers, ship_part
from melisma.recipes.settings import changed
from melisma.tokenizers import AudioTokenizers
from melisma.train.datasets.captions import with_captions, words_of
from melisma.train.lm import Codes, TokenCorpus, read_corpus, train_stage


def token_folder(order: RunRequest) -> Path:
    """Shards that `melisma prepare --tokens` wrote into the data, or those of this run, or those of
    the run that it starts from, if its ears are the same."""
    places = [order.data / "tokens", order.part("tokens")]
    if order.start is not None and all(
        _same(order.model, order.start, name) for name in TOKENIZERS
    ):
        places.append(order.start.parent / "tokens")
    return next((place for place in places if place.is_dir()), order.part("tokens"))


def _same(one: Path, other: Path, name: str) -> bool:
    """Whether a part of two models is the same file."""
    first, second = (folder / f"{name}.safetensors" for folder in (one, other))
    return first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)


def both_token_shards(order: RunRequest, ears: AudioTokenizers) -> tuple[TokenCorpus, TokenCorpus]:
    """(training, held-out) clips of tokens."""
    corpus = read_corpus(token_folder(order), ears.joint.quantiser.codes, ears.fingerprints)
    held = max(1, round(len(corpus) * 0.03))
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(corpus)))
    return corpus.part(rows[held:]), corpus.part(rows[:held])


def codes_of(ears: AudioTokenizers) -> Codes:
    """The vectors of tokens from which a language model begins."""
    return Codes(acoustic=ears.codec.codec.quantizer.codes, semantic=ears.semantic.centroids)


def run_stage(order: RunRequest, name: str) -> None:
    """One stage of the language model, from token shards alone."""
    expect_stages(order, single=False)
    ears = frozen_tokenizers(order)
    settings = changed(sizes.stage(name, order.size), order.changes, f"{name}_lm")
    settings = dataclasses.replace(settings, device=order.device)
    train_stage(
        settings,
        *both_token_shards(order, ears),
        order.part(f"{name}_lm"),
        order.started_from(f"{name}_lm"),
        codes_of(ears),
    )
    ship_part(order, f"{name}_lm")


def run_single(order: RunRequest) -> None:
    """One stage that is told captions, in the place of all three; from token shards alone. Ears
    that are not in the model's folder are those of the start."""
    expect_stages(order, single=True)
    copy_tokenizers(order)
    ears = frozen_tokenizers(order)
    settings = sizes.single(order.size, ears.joint.text.settings.width)
    settings = changed(settings, order.changes, "single")
    settings = dataclasses.replace(settings, device=order.device)
    train, held = both_token_shards(order, ears)
    train_stage(
        settings,
        with_captions(train, order.captions, ears.joint, settings.loop.seed),
        held,
        order.part("single"),
        single_started_from(order),
        codes_of(ears),
        words_of(ears.joint, order.captions),
    )
    learned = read_checkpoint(order.part("single") / "weights.safetensors")
    model = TokenModel(settings.model)
    model.load_state_dict(dict(learned.tensors))
    model.conditioner.ignore_never_trained(settings.drop)
    forgetful = dataclasses.replace(learned, tensors=dict(model.state_dict()))
    write_checkpoint(order.weights("coarse_lm"), forgetful)


def expect_stages(order: RunRequest, *, single: bool) -> None:
    """`ValueError` where the model's folder has stages of the other kind: one that is told captions
    beside others, or written over by them, would be lost."""
    coarse = order.weights("coarse_lm")
    told = coarse.is_file() and "words" in read_checkpoint(coarse).fingerprints
    if single and (order.weights("semantic_lm").is_file() or (coarse.is_file() and not told)):
        raise ValueError(
            f"{order.model} holds a model of several stages, which would be written over: give "
            "another folder as --output, and this one as --set start=FOLDER"
        )
    if not single and told:
        raise ValueError(
            f"{order.model} holds a single stage that is told captions: give another folder as "
            "--output"
        )


def copy_tokenizers(order: RunRequest) -> None:
    """Copies the ears of the start that the model's folder has not."""
    if order.start is None:
        return
    for name in TOKENIZERS:
        path = order.start / f"{name}.safetensors"
        if order.weights(name).is_file():
            continue
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path.name} in {path.parent}: start from a model")
        with replacing(order.weights(name)) as place:
            shutil.copyfile(path, place)


def single_started_from(order: RunRequest) -> dict[str, torch.Tensor] | None:
    """Weights to continue from, where the start has one stage that is told captions."""
    tensors = order.started_from("coarse_lm") or {}
    return tensors if any(name.startswith("conditioner.spoken.") for name in tensors) else None
