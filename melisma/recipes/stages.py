"""Training of the language model's stages, from token shards to weights in the model folder."""

from __future__ import annotations

import dataclasses
import filecmp
from pathlib import Path

import numpy as np
import torch

from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.lm import TokenModel
from melisma.recipes import sizes
from melisma.recipes.request import (
    TOKENIZERS,
    RunRequest,
    copy_file,
    frozen_tokenizers,
    ship_part,
)
from melisma.recipes.settings import changed
from melisma.tokenizers import AudioTokenizers
from melisma.train.datasets.captions import caption_encoder, with_captions
from melisma.train.lm import Codes, TokenCorpus, read_corpus, train_stage
from melisma.values.errors import MelismaError


def token_folder(request: RunRequest) -> Path:
    """The folder of token shards.

    The first that exists: those that `melisma prepare --tokens` wrote into the data, those of this
    run, and those of the run that it starts from, if it has the same tokenizers.
    """
    folders = [request.data / "tokens", request.part("tokens")]
    if request.start is not None and all(
        _same(request.model, request.start, name) for name in TOKENIZERS
    ):
        folders.append(request.start.parent / "tokens")
    return next((folder for folder in folders if folder.is_dir()), request.part("tokens"))


def _same(one: Path, other: Path, name: str) -> bool:
    """Whether the files of a part are identical in two model folders."""
    first, second = (folder / f"{name}.safetensors" for folder in (one, other))
    return first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)


def both_token_shards(
    request: RunRequest, tokenizers: AudioTokenizers
) -> tuple[TokenCorpus, TokenCorpus]:
    """(training, held-out) clips as tokens; 3 % are held out."""
    corpus = read_corpus(
        token_folder(request), tokenizers.joint.quantiser.codes, tokenizers.fingerprints
    )
    held = max(1, round(len(corpus) * 0.03))
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(corpus)))
    return corpus.part(rows[held:]), corpus.part(rows[:held])


def codes_of(tokenizers: AudioTokenizers) -> Codes:
    """Codebook vectors, from which the embeddings of a language model are initialized."""
    return Codes(
        acoustic=tokenizers.codec.codec.quantizer.codes, semantic=tokenizers.semantic.centroids
    )


def run_stage(request: RunRequest, name: str) -> None:
    """Trains one stage of the language model: "semantic", "coarse" or "fine"."""
    expect_stages(request, single=False)
    tokenizers = frozen_tokenizers(request)
    settings = changed(sizes.stage(name, request.size), request.changes, f"{name}_lm")
    settings = dataclasses.replace(settings, device=request.device)
    train_stage(
        settings,
        *both_token_shards(request, tokenizers),
        request.part(f"{name}_lm"),
        request.started_from(f"{name}_lm"),
        codes_of(tokenizers),
    )
    ship_part(request, f"{name}_lm")


def run_single(request: RunRequest) -> None:
    """Trains a single stage that is conditioned on captions and replaces all three stages.

    Tokenizers that the model folder lacks are copied from the start.
    """
    expect_stages(request, single=True)
    copy_tokenizers(request)
    tokenizers = frozen_tokenizers(request)
    settings = sizes.single(request.size, tokenizers.joint.text.settings.width)
    settings = changed(settings, request.changes, "single")
    settings = dataclasses.replace(settings, device=request.device)
    train, held = both_token_shards(request, tokenizers)
    train_stage(
        settings,
        with_captions(train, request.captions, tokenizers.joint, settings.loop.seed),
        held,
        request.part("single"),
        single_started_from(request),
        codes_of(tokenizers),
        caption_encoder(tokenizers.joint, request.captions),
    )
    learned = read_checkpoint(request.part("single") / "weights.safetensors")
    model = TokenModel(settings.model)
    model.load_state_dict(dict(learned.tensors))
    model.conditioner.ignore_never_trained(settings.drop)
    cleared = dataclasses.replace(learned, tensors=dict(model.state_dict()))
    write_checkpoint(request.weights("coarse_lm"), cleared)


def expect_stages(request: RunRequest, *, single: bool) -> None:
    """Checks that the model folder does not mix a single stage with several stages.

    Args:
        request: the run.
        single: whether a single stage is about to be trained.

    Raises:
        MelismaError: where training would overwrite a model of the other kind.
    """
    coarse = request.weights("coarse_lm")
    on_captions = coarse.is_file() and "words" in read_checkpoint(coarse).fingerprints
    several = request.weights("semantic_lm").is_file() or (coarse.is_file() and not on_captions)
    if single and several:
        raise MelismaError(
            f"{request.model} holds a model of several stages, which would be written over: give "
            "another folder as --output, and this one as --set start=FOLDER"
        )
    if not single and on_captions:
        raise MelismaError(
            f"{request.model} holds a single stage conditioned on captions: give another folder as "
            "--output"
        )


def copy_tokenizers(request: RunRequest) -> None:
    """Copies the tokenizers that the model folder lacks from the start."""
    if request.start is None:
        return
    for name in TOKENIZERS:
        path = request.start / f"{name}.safetensors"
        if request.weights(name).is_file():
            continue
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path.name} in {path.parent}: start from a model")
        copy_file(path, request.weights(name))


def single_started_from(request: RunRequest) -> dict[str, torch.Tensor] | None:
    """Weights to start from, if the start is a single stage conditioned on captions."""
    tensors = request.started_from("coarse_lm") or {}
    return tensors if any(name.startswith("conditioner.spoken.") for name in tensors) else None
