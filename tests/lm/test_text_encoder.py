"""Words of a published checkpoint: tokens, states and lengths are those of transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from melisma.files.transformers_checkpoint import PublishedTensors
from melisma.lm.text_encoder import LONGEST_TOKENS, read_text_encoder, read_tokenizer
from melisma.values.errors import MelismaError

SENTENCES = [
    "a slow waltz for piano", "80s driving pop song with heavy drums", "a quiet cello, 70 bpm",
    "lo-fi hip hop for a late night", "bright brass and a marching drum", "a choir in a church",
]  # fmt: skip
TEXTS = ["a slow waltz for piano", "", "80s driving pop song — größer, ♪!", "drum"]


def small_tokenizer() -> Tokenizer:
    """Unigram pieces as T5's: <pad>, </s>, <unk> first, an end token after every text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text half of a small random MusicGen, as transformers writes it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("published")
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=tokenizer.get_vocab_size() + 6, d_model=16, d_kv=4, d_ff=32, num_layers=2,
        num_heads=4,
    )  # fmt: skip
    model = transformers.T5EncoderModel(config).eval()
    weights = {f"text_encoder.{n}": w.clone() for n, w in model.state_dict().items()}
    del weights["text_encoder.encoder.embed_tokens.weight"]
    save_file({**weights, "decoder.x": torch.zeros(3)}, folder / "model.safetensors")
    whole = {"model_type": "musicgen", "text_encoder": config.to_dict()}
    (folder / "config.json").write_text(json.dumps(whole), "utf-8")
    tokenizer.enable_truncation(4)  # what a file may carry from how it was last used
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def originals(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and encoder of transformers, from the same files."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=LONGEST_TOKENS,
    )  # fmt: skip
    config = json.loads((folder / "config.json").read_text("utf-8"))["text_encoder"]
    model = transformers.T5EncoderModel(transformers.T5Config(**config)).eval()
    weights = load_file(folder / "model.safetensors")
    own = {n.removeprefix("text_encoder."): w for n, w in weights.items() if n != "decoder.x"}
    model.load_state_dict(own | {"encoder.embed_tokens.weight": own["shared.weight"]})
    return tokenizer, model


def test_states_and_lengths_are_those_of_transformers(folder: Path) -> None:
    words = read_text_encoder(folder)
    tokenizer, model = originals(folder)
    given = [text for text in TEXTS if text]
    batch = tokenizer(given, padding=True, truncation=True, return_tensors="pt")
    kept = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        expected = model(**kept).last_hidden_state
    found = words.encode(given)
    assert found.remarks == ()
    assert found.states.dtype == torch.float32
    assert found.lengths.dtype == torch.int64
    assert found.lengths.tolist() == batch["attention_mask"].sum(dim=1).tolist()
    present = batch["attention_mask"].bool()
    assert torch.equal(found.present, present)
    assert (found.states - expected)[present].abs().max() < 1e-5
    assert not found.states[~present].any()
    assert found.states.shape[-1] == words.width == 16


@pytest.mark.parametrize(
    "text", [*[text for text in TEXTS if text], "two  spaces\n and </s> given", "waltz " * 300]
)
def test_tokens_are_those_of_transformers(folder: Path, text: str) -> None:
    tokenizer, _ = originals(folder)
    (row,), remarks = read_text_encoder(folder).tokens([text])
    assert row == tokenizer(text, truncation=True)["input_ids"]
    assert row[-1] == 1
    assert bool(remarks) == (len(row) == LONGEST_TOKENS) == (len(text) > 1000)


def test_an_empty_text_has_no_states(folder: Path) -> None:
    words = read_text_encoder(folder)
    mixed = words.encode(TEXTS)
    assert mixed.lengths[1] == 0
    assert not mixed.states[1].any()
    alone = words.encode([TEXTS[0]])
    length = int(alone.lengths[0])
    assert (mixed.states[0, :length] - alone.states[0]).abs().max() < 1e-5
    empty = words.encode(["", " \n "])
    assert empty.lengths.tolist() == [0, 0]
    assert empty.states.shape == (2, 1, 16)
    assert not empty.states.any()
    for texts in ([], "a slow waltz"):
        with pytest.raises(MelismaError, match="a list of one text or more"):
            words.encode(texts)


def test_a_long_text_is_cut_and_said_to_be(folder: Path) -> None:
    given = {"model_max_length": 6, "eos_token": {"content": "</s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(given), "utf-8")
    words = read_text_encoder(folder)
    found = words.encode(["drum", "a slow waltz for piano and a slow waltz for piano"])
    assert found.lengths.max() == found.states.shape[1] == 6
    (remark,) = found.remarks
    assert "was cut to 5" in remark
    assert "a sl" in remark


@pytest.mark.parametrize("bound", [10**30, 0, -1, None, True, "512", 1.5])
def test_a_bound_that_is_none_is_not_taken(folder: Path, bound: object) -> None:
    given = {"model_max_length": bound}
    (folder / "tokenizer_config.json").write_text(json.dumps(given), "utf-8")
    assert read_text_encoder(folder).longest_tokens == LONGEST_TOKENS


def test_bfloat16_is_near(folder: Path) -> None:
    tensors = PublishedTensors(folder)
    exact = read_text_encoder(folder, tensors).encode(TEXTS)
    rounded = read_text_encoder(folder, tensors, precision="bfloat16").encode(TEXTS)
    assert rounded.states.dtype == torch.float32
    assert 0 < (rounded.states - exact.states).abs().max() < 0.1
    with pytest.raises(MelismaError, match='float32 or bfloat16, not "int8"'):
        read_text_encoder(folder, precision="int8")


def test_weights_of_another_shape_are_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_encoder"]["d_ff"] = 31
    config["text_encoder"]["num_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(
        MelismaError, match=r"8 missing .*block\.2.*DenseReluDense\.\w+\.weight is "
    ):
        read_text_encoder(folder)


def test_no_text_encoder(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "musicgen"}', "utf-8")
    with pytest.raises(MelismaError, match="describes no text_encoder"):
        read_text_encoder(folder)


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_encoder"]["vocab_size"] = 20
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(MelismaError, match="the text encoder 20: they belong to different models"):
        read_text_encoder(folder)


def test_a_tokenizer_without_an_end(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>"}', "utf-8")
    with pytest.raises(MelismaError, match="no end token"):
        read_text_encoder(folder)


def test_no_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text("utf-8")[:200], "utf-8")
    with pytest.raises(MelismaError, match="is no tokenizer"):
        read_tokenizer(folder)
    path.unlink()
    with pytest.raises(MelismaError, match=r"holds no tokenizer\.json"):
        read_tokenizer(folder)
    (folder / "spiece.model").write_bytes(b"\n\x0b")
    with pytest.raises(MelismaError, match=r"python -c .*T5TokenizerFast.*save_pretrained"):
        read_tokenizer(folder)
