"""From a folder of clips to a model's folder: the whole chain on one page.

`data/train` (and `data/held`, if there is one) are folders that `melisma prepare` wrote. In
`output` every part has a folder of its own with its training state, logs and samples;
`output/model` holds what `melisma generate --model` loads. A part that is finished is not trained
again.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from melisma.compose.loading import model_folder
from melisma.corpus.ears import Ears, read_ears
from melisma.corpus.hearing import EarPaths, FrozenEars, trunk_states
from melisma.corpus.tongue import encode_clips
from melisma.files.checkpoint import read_checkpoint, write_checkpoint
from melisma.joint import Joint
from melisma.lm import TokenModel
from melisma.measure import clip_index, melody_prints
from melisma.recipes import sizes
from melisma.recipes.judges import (
    measure_reference_of,
    measure_score_reference_of,
    train_judge_of,
)
from melisma.recipes.names import PARTS, SIZES
from melisma.recipes.originality import build_index, read_indexed_clips
from melisma.recipes.score_prints import PrintSettings, make_prints
from melisma.recipes.scores import tell_scores
from melisma.recipes.settings import changed
from melisma.recipes.words import gather_sentences, train_words
from melisma.semantic import SemanticTokenizer
from melisma.train.captions import with_captions, words_of
from melisma.train.codec import train_codec
from melisma.train.heard import HeardClips, hear, split_by_group
from melisma.train.joint import polish_text, train_joint
from melisma.train.lm import Codes, TokenCorpus, read_corpus, train_stage
from melisma.train.score import train_score
from melisma.train.score_corpus import read_score_corpus
from melisma.train.semantic import instrument_labels, listen, train_semantic
from melisma.train.text import read_text

HELD_SHARE = 0.08
"""Share of the works that are held out where the data has no folder of its own for them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What a run of the chain was asked for."""

    data: Path
    output: Path
    size: str
    changes: Mapping[str, str]
    """Settings of the tree by their dotted names, as words."""
    device: str
    words: Path | None
    """A folder of human captions for the text tower; None: our own sentences alone."""
    start: Path | None
    """A model's folder to continue from; "default" is the shipped one."""
    captions: str = "exact"
    """Which captions the single stage learns from: one of `melisma.train.captions.KINDS`."""

    def part(self, name: str) -> Path:
        """The folder of one part."""
        return self.output / name

    @property
    def model(self) -> Path:
        """What `melisma generate --model` loads."""
        return self.output / "model"

    def weights(self, name: str) -> Path:
        """One file of the model's folder."""
        return self.model / f"{name}.safetensors"

    @property
    def splits(self) -> Path:
        """The file that remembers which pieces are held out: that of the score model where it was
        trained in this folder."""
        folder = self.part("score") if self.part("score").is_dir() else self.part("prints")
        return folder / "splits.json"

    def model_with(self, name: str) -> Path:
        """The run's own model where it has this part, else what it starts from: the shipped one
        where nothing was said."""
        own = self.weights(name).is_file()
        return self.model if own else self.start or model_folder("default")

    def started_from(self, name: str) -> dict[str, torch.Tensor] | None:
        """Weights to continue from."""
        path = None if self.start is None else self.start / f"{name}.safetensors"
        return None if path is None or not path.is_file() else read_checkpoint(path).tensors


def run(
    recipe: str, *, data: Path, output: Path, resume: bool, changes: dict[str, str], device: str
) -> None:
    """Runs one part or, for "all", every part that is not finished yet."""
    size = changes.pop("size", "small")
    if size not in SIZES:
        raise ValueError(f'no size "{size}": known are {", ".join(SIZES)}')
    words, start = changes.pop("words", None), changes.pop("start", None)
    captions = changes.pop("captions", "exact")
    for name in changes:
        if name.partition(".")[0] not in (*RUNS, "score_rows"):
            raise ValueError(
                f'no setting "{name}": here are size, words, start, captions, and those of '
                f"the parts {', '.join(RUNS)}, score_rows, e.g. codec.loop.updates=500"
            )
    order = Order(
        data=data,
        output=output,
        size=size,
        changes=changes,
        device=chosen_device(device),
        words=None if words is None else Path(words),
        start=None if start is None else model_folder(start),
        captions=captions,
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


def both_ears(order: Order) -> tuple[Ears, Ears]:
    """(training, held-out) clips."""
    train = order.data / "train" if (order.data / "train").is_dir() else order.data
    held = order.data / "held"
    return read_ears(train), read_ears(held if held.is_dir() else train)


def run_codec(order: Order) -> None:
    """Codec."""
    train, held = both_ears(order)
    settings = changed(sizes.codec(order.size), order.changes, "codec")
    settings = dataclasses.replace(settings, device=order.device)
    start = order.started_from("codec")
    train_codec(settings, train.sound, held.sound, order.part("codec"), start)
    keep(order, "codec")


def run_polish(order: Order) -> None:
    """Decoder polishing: the tokens stay what they are, so no other part is invalidated."""
    train, held = both_ears(order)
    settings = changed(sizes.polish(order.size), order.changes, "polish")
    settings = dataclasses.replace(settings, device=order.device)
    start = read_checkpoint(order.weights("codec")).tensors
    train_codec(settings, train.sound, held.sound, order.part("polish"), start)
    checkpoint = read_checkpoint(order.part("polish") / "weights.safetensors", kind="codec")
    write_checkpoint(order.weights("codec"), checkpoint)


def run_semantic(order: Order) -> None:
    """Semantic encoder and its clusters."""
    train, held = both_ears(order)
    settings = changed(sizes.semantic(order.size), order.changes, "semantic")
    settings = dataclasses.replace(settings, device=order.device)
    train_semantic(
        settings,
        listen(train.sound, instrument_labels(train), order.device),
        listen(held.sound[:1], instrument_labels(held)[:1], order.device),
        order.part("semantic"),
        order.started_from("semantic"),
    )
    keep(order, "semantic")


def run_text(order: Order) -> None:
    """Text tower alone."""
    settings = changed(sizes.text(order.size), order.changes, "text")
    train_words(settings, order.words, order.part("text"), few=order.size == "toy")
    keep(order, "text", source=order.part("text") / "text.safetensors")


def heard_pairs(order: Order, tokenizer: SemanticTokenizer) -> tuple[HeardClips, HeardClips]:
    """(training, held-out) clips as the music tower hears them, heard once."""
    train, held = both_ears(order)
    folder = order.part("joint")

    def states_of(sound: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(trunk_states(tokenizer.hear(sound), 0, 250))

    heard = hear(train, states_of, folder / "train.npz")
    if (order.data / "held").is_dir():
        return heard, hear(held, states_of, folder / "held.npz")
    return split_by_group(train, heard, HELD_SHARE, 0)


def run_joint(order: Order) -> None:
    """Words and sound together."""
    tokenizer = SemanticTokenizer.read(order.weights("semantic"), order.device)
    heard, apart = heard_pairs(order, tokenizer)
    text, words = read_text(order.weights("text"))
    settings = sizes.joint(order.size, tokenizer.settings.width)
    settings = changed(settings, order.changes, "joint")
    joint = train_joint(settings, heard, apart, text, words, order.part("joint"))
    joint.semantic_fingerprint = tokenizer.fingerprint
    joint.write(order.weights("joint"), precision="float16")


def run_polish_text(order: Order) -> None:
    """Text polishing: the music tower and its tokens stay what they are."""
    tokenizer = SemanticTokenizer.read(order.weights("semantic"), order.device)
    heard, apart = heard_pairs(order, tokenizer)
    joint = Joint.read(order.weights("joint"))
    settings = sizes.polish_text(order.size, joint.music.settings)
    settings = changed(settings, order.changes, "polish_text")
    folder, few = order.part("polish_text"), order.size == "toy"
    lessons = gather_sentences(order.words, folder, settings.loop.seed, few=few).rows
    polished = polish_text(settings, joint, heard, apart, folder, lessons)
    polished.write(order.weights("joint"), precision="float16")


def run_tokens(order: Order) -> None:
    """The clips of the ears as tokens; `melisma prepare --model` renders more and longer ones."""
    folder = order.part("tokens")
    if not (folder / "index.jsonl").exists():
        train, _ = both_ears(order)
        encode_clips(folder, train, frozen_ears(order))


def token_folder(order: Order) -> Path:
    """Shards that `melisma prepare --tokens` wrote into the data, or those of this run, or of the
    run that it starts from."""
    places = [order.data / "tokens", order.part("tokens")]
    if order.start is not None:
        places.append(order.start.parent / "tokens")
    return next((place for place in places if place.is_dir()), order.part("tokens"))


def both_tongues(order: Order, ears: FrozenEars) -> tuple[TokenCorpus, TokenCorpus]:
    """(training, held-out) clips of tokens."""
    corpus = read_corpus(token_folder(order), ears.joint.quantiser.codes, ears.fingerprints)
    held = max(1, round(len(corpus) * 0.03))
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(corpus)))
    return corpus.part(rows[held:]), corpus.part(rows[:held])


def codes_of(ears: FrozenEars) -> Codes:
    """The vectors of tokens from which a language model begins."""
    return Codes(acoustic=ears.codec.codec.quantizer.codes, semantic=ears.semantic.centroids)


def run_stage(order: Order, name: str) -> None:
    """One stage of the language model, from token shards alone."""
    ears = frozen_ears(order)
    settings = changed(sizes.stage(name, order.size), order.changes, f"{name}_lm")
    settings = dataclasses.replace(settings, device=order.device)
    train_stage(
        settings,
        *both_tongues(order, ears),
        order.part(f"{name}_lm"),
        order.started_from(f"{name}_lm"),
        codes_of(ears),
    )
    keep(order, f"{name}_lm")


def run_single(order: Order) -> None:
    """One stage that is told captions, in the place of all three; from token shards alone.

    Ears that are not in the model's folder are those of the start. `ValueError` where a model of
    several stages would be lost.
    """
    if order.weights("semantic_lm").is_file():
        raise ValueError(
            f"{order.model} holds a model of several stages, whose coarse one would be written "
            "over: give another folder as --output, and this one as --set start=FOLDER"
        )
    for name in ("codec", "semantic", "joint"):
        if order.start is not None and not order.weights(name).is_file():
            shutil.copyfile(order.start / f"{name}.safetensors", order.weights(name))
    ears = frozen_ears(order)
    settings = sizes.single(order.size, ears.joint.text.settings.width)
    settings = changed(settings, order.changes, "single")
    settings = dataclasses.replace(settings, device=order.device)
    train, held = both_tongues(order, ears)
    train_stage(
        settings,
        with_captions(train, order.captions, ears.joint, settings.loop.seed),
        held,
        order.part("single"),
        single_started_from(order),
        codes_of(ears),
        words_of(ears.joint),
    )
    learned = read_checkpoint(order.part("single") / "weights.safetensors")
    model = TokenModel(settings.model)
    model.load_state_dict(dict(learned.tensors))
    model.conditioner.forget_untold(settings.drop)
    forgetful = dataclasses.replace(learned, tensors=dict(model.state_dict()))
    write_checkpoint(order.weights("coarse_lm"), forgetful)


def single_started_from(order: Order) -> dict[str, torch.Tensor] | None:
    """Weights to continue from, where the start has one stage that is told captions."""
    tensors = order.started_from("coarse_lm") or {}
    return tensors if any(name.startswith("conditioner.spoken.") for name in tensors) else None


def run_index(order: Order) -> None:
    """The index of the clips that the language model learned from, and how near others come.

    `data/held_tokens`, if it is there, are token shards of the split held.
    """
    paths = EarPaths.of(order.model_with("joint"))
    joint, semantic = Joint.read(paths.joint), SemanticTokenizer.read(paths.semantic)
    held = order.data / "held_tokens"
    index = build_index(
        read_indexed_clips(token_folder(order), joint),
        read_indexed_clips(held, joint) if held.is_dir() else None,
        {"semantic": semantic.fingerprint, "joint": joint.fingerprint},
        HELD_SHARE,
    )
    index.write(order.weights(clip_index.KIND))
    for limit in index.limits:
        print(
            f"{limit.pieces} held-out clips of {limit.piece_seconds:g} s against {len(index)}: "
            f"99 % share {limit.run_seconds:.2f} s or less, agree in {limit.agreement:.2f} of the "
            f"frames of 5 s or less, cosine {limit.similarity:.3f} or less"
        )


def run_judge(order: Order) -> None:
    """The independent judge, from `data/judge`: clips of the split judge, other soundfonts."""
    settings, training = sizes.judge(order.size)
    training = changed(training, order.changes, "judge")
    train_judge_of(order.data / "judge", order.model, settings, training)
    # Rounded as it will be shipped, so that references are measured by just this judge.
    judge = order.weights("judge")
    write_checkpoint(judge, read_checkpoint(judge), precision="int8")


def run_reference(order: Order) -> None:
    """The reference set of sound, from `data/reference`: clips of the split held, small world."""
    model = order.model_with("codec")
    measure_reference_of(order.data / "reference", model, order.model)


def run_score_reference(order: Order) -> None:
    """The reference of scores, from a folder of corpora of notation."""
    model = order.model_with(melody_prints.KIND)
    measure_score_reference_of(order.data, model, order.model, order.splits)


def run_score(order: Order) -> None:
    """The score model, from a folder of corpora of notation or of any MIDI files."""
    settings = changed(sizes.score(order.size), order.changes, "score")
    settings = dataclasses.replace(settings, device=order.device)
    rows = changed(sizes.score_rows(order.size), order.changes, "score_rows")
    joint = order.weights("joint")
    if not joint.is_file():
        shutil.copyfile(order.model_with("joint") / joint.name, joint)
    folder = order.part("score")
    tell_scores(order.data, folder, rows)
    text = Joint.read(joint)
    train_score(
        settings,
        read_score_corpus(folder / "train", text),
        read_score_corpus(folder / "held", text),
        folder,
        order.started_from("score_lm"),
    )
    keep(order, "score_lm", source=folder / "weights.safetensors")


def run_prints(order: Order) -> None:
    """Prints of the pieces that the score model learned from, and how near others come."""
    settings = changed(PrintSettings(), order.changes, "prints")
    prints = make_prints(order.data, order.splits, settings)
    prints.write(order.weights(melody_prints.KIND))


def keep(order: Order, name: str, source: Path | None = None) -> None:
    """Puts a part's averaged weights into the model's folder.

    Ears are rounded to float16 here, as they will be shipped, so that just those make the tokens.
    """
    checkpoint = read_checkpoint(source or order.part(name) / "weights.safetensors")
    precision = "float16" if name in ("codec", "semantic") else "float32"
    write_checkpoint(order.weights(name), checkpoint, precision=precision)


def frozen_ears(order: Order) -> FrozenEars:
    """The ears of the model's folder; a sentence says what is missing."""
    return FrozenEars.read(EarPaths.of(order.model), order.device)


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
    melody_prints.KIND,
    "judge",
    "reference",
    "score_reference",
)
"""What is small in the run's own model already; a reference belongs to just the judge beside it."""


def ship(folder: Path, target: Path) -> None:
    """Writes a model's folder as weights to pass on: int8 rows, what decides tokens as float16.

    The ears were rounded to float16 when they were kept, before tokens were made by them.
    `FileNotFoundError` where the folder holds no part of a model.
    """
    if not any((folder / f"{name}.safetensors").is_file() for name in DECIDING):
        raise FileNotFoundError(f"there is no model in {folder}: train one first")
    target.mkdir(parents=True, exist_ok=True)
    for name, exact in DECIDING.items():
        path = folder / f"{name}.safetensors"
        if path.is_file():
            checkpoint = read_checkpoint(path)
            write_checkpoint(target / path.name, checkpoint, precision="int8", exact=exact)
    for name in SHIPPED_AS_THEY_ARE:
        path = folder / f"{name}.safetensors"
        if path.is_file():
            shutil.copyfile(path, target / path.name)


def run_ship(order: Order) -> None:
    """The run's model as small as the shipped ones, into `shipped` beside it."""
    ship(order.model, order.output / "shipped")


RUNS: dict[str, Callable[[Order], Any]] = {
    "codec": run_codec,
    "polish": run_polish,
    "polish_text": run_polish_text,
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
    "prints": run_prints,
    "judge": run_judge,
    "reference": run_reference,
    "score_reference": run_score_reference,
    "ship": run_ship,
}
