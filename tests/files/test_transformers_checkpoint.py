"""Published checkpoints: what transformers writes is read, and all else is refused in one
sentence."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from melisma.files.transformers_checkpoint import (
    PublishedTensors,
    conversion_command,
    expect_tensors,
    is_published,
    missing_weights,
    read_config,
    read_generation_config,
    read_tokenizer_config,
)
from melisma.values.errors import MelismaError

CONFIG = {"model_type": "musicgen"}


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "text_encoder.shared.weight": torch.randn(6, 4, generator=generator),
        "decoder.one": torch.randn(3, generator=generator).half(),
        "decoder.two": torch.randn(2, 2, generator=generator),
        "decoder.count": torch.arange(5),
    }


def write(folder: Path, config: Any = CONFIG) -> Path:
    """A whole checkpoint in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(tensors(), folder / "model.safetensors")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    return folder


def write_shards(folder: Path) -> Path:
    """The same in two files with an index."""
    write(folder)
    (folder / "model.safetensors").unlink()
    by_name = {}
    for number, half in enumerate((list(tensors())[:2], list(tensors())[2:]), start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors()[name] for name in half}, folder / shard)
        by_name |= dict.fromkeys(half, shard)
    index = {"metadata": {"total_size": 0}, "weight_map": by_name}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder


WRITERS = pytest.mark.parametrize("writer", [write, write_shards])


@WRITERS
def test_tensors_come_back_to_the_bit(writer: Callable[[Path], Path], tmp_path: Path) -> None:
    found = PublishedTensors(writer(tmp_path))
    assert found.names() == tuple(sorted(tensors()))
    assert found.names("decoder.t") == ("decoder.two",)
    for name, tensor in tensors().items():
        assert name in found
        assert found.shape(name) == tuple(tensor.shape)
        assert torch.equal(found.get(name), tensor)
        assert found.get(name).dtype == tensor.dtype
    assert found.get("decoder.one", torch.float32).dtype == torch.float32
    assert found.get("decoder.count", torch.bfloat16).dtype == torch.int64
    assert dict(found.items("decoder.", torch.bfloat16))["decoder.two"].dtype == torch.bfloat16
    assert found.stored("decoder.one").precision == "F16"
    assert found.bytes == sum(t.numel() * t.element_size() for t in tensors().values())
    assert found.parameters == sum(t.numel() for t in tensors().values())
    assert missing_weights(tmp_path) == ()


def test_sizes_are_known_without_loading(tmp_path: Path) -> None:
    """Neither torch nor a single tensor is loaded for them."""
    write_shards(tmp_path)
    code = (
        "import sys; from pathlib import Path; import melisma.files.transformers_checkpoint as p; "
        f"t = p.PublishedTensors(Path({str(tmp_path)!r})); "
        "print(t.parameters, t.bytes, t._opened, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["36", "158", "{}", "False"]


def test_what_transformers_writes_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    text = transformers.T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    audio = transformers.EncodecConfig(
        hidden_size=4, num_filters=2, codebook_size=8, codebook_dim=4, num_lstm_layers=1,
        upsampling_ratios=[2, 2], sampling_rate=100, target_bandwidths=[0.15],
    )  # fmt: skip
    decoder = transformers.MusicgenDecoderConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, ffn_dim=8,
        num_codebooks=2, pad_token_id=7, bos_token_id=7,
    )  # fmt: skip
    config = transformers.MusicgenConfig(
        text_encoder=text.to_dict(), audio_encoder=audio.to_dict(), decoder=decoder.to_dict()
    )
    model = transformers.MusicgenForConditionalGeneration(config)
    model.save_pretrained(tmp_path, max_shard_size="3KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert is_published(tmp_path)
    assert read_config(tmp_path)["text_encoder"]["d_model"] == 8
    found = PublishedTensors(tmp_path)
    weights = model.state_dict()
    expect_tensors(found, {name: tuple(weight.shape) for name, weight in weights.items()})
    for name, weight in weights.items():
        assert torch.equal(found.get(name), weight)


def test_links_out_of_the_folder_are_followed(tmp_path: Path) -> None:
    """As the cache of the hub lays its folders out."""
    blobs = write_shards(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    assert read_config(snapshot) == CONFIG
    assert PublishedTensors(snapshot).names() == tuple(sorted(tensors()))


def test_ours_and_published_checkpoints_are_distinguished(tmp_path: Path) -> None:
    assert is_published(write(tmp_path / "theirs"))
    assert is_published(write(tmp_path / "another family", {"model_type": "bert"}))
    assert not is_published(write(tmp_path / "no family", {"width": 3}))
    ours = tmp_path / "ours"
    ours.mkdir()
    assert not is_published(ours)
    save_file({"x": torch.zeros(1)}, ours / "codec.safetensors")
    (ours / "state_dict.bin").write_bytes(b"x")
    assert not is_published(ours)
    assert not is_published(tmp_path / "absent")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"model_ty', "utf-8")
    assert is_published(damaged)  # so that `read_config` can say what is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model_type": "musi', "truncated or damaged"),
        ("[1, 2]", "holds no JSON object"),
        ("\xff", "truncated or damaged"),
        ('{"model_type": "bert"}', 'of the family "bert": read are musicgen and musicgen_melody'),
        ("{}", "names no family: read are musicgen and musicgen_melody"),
    ],
)
def test_a_config_that_cannot_be_read(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(MelismaError, match=said):
        read_config(tmp_path)


def test_files_that_may_be_absent(tmp_path: Path) -> None:
    assert read_generation_config(tmp_path) == {}
    assert read_tokenizer_config(tmp_path) == {}
    (tmp_path / "generation_config.json").write_text('{"guidance_scale": 3.0}', "utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}', "utf-8")
    assert read_generation_config(tmp_path) == {"guidance_scale": 3.0}
    assert read_tokenizer_config(tmp_path) == {"model_max_length": 512}
    with pytest.raises(MelismaError, match=r"holds no config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.th"])
def test_pickled_weights_are_refused_with_a_way_out(name: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(MelismaError, match="only pickled weights") as refused:
        PublishedTensors(tmp_path)
    assert name in str(refused.value)
    assert conversion_command(str(tmp_path)) in str(refused.value)


def test_audiocrafts_own_layout_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "state_dict.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "compression_state_dict.bin").write_bytes(b"\x80\x04.")
    assert is_published(tmp_path)
    with pytest.raises(MelismaError, match=r"audiocraft's own layout.*facebook/musicgen-small"):
        read_config(tmp_path)


@pytest.mark.parametrize("source", ["facebook/musicgen-large", "/a b/c", "/it's $HOME `x`", 'a"b'])
def test_the_conversion_is_one_command_for_a_shell(source: str) -> None:
    python, option, code = shlex.split(conversion_command(source))
    assert (python, option) == ("python", "-c")
    assert f"n = {source!r};" in code
    compile(code, "command", "exec")


def test_no_weights_at_all(tmp_path: Path) -> None:
    (write(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(MelismaError, match=r"neither model\.safetensors nor"):
        PublishedTensors(tmp_path)
    assert missing_weights(tmp_path) == ("model.safetensors",)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (write_shards(tmp_path) / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MelismaError, match=r"lacks model-00002-of-00002\.safetensors"):
        PublishedTensors(tmp_path)
    assert missing_weights(tmp_path) == ("model-00002-of-00002.safetensors",)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "truncated or damaged"),
        ("{}", "its weight_map must name"),
        ('{"weight_map": {}}', "its weight_map must name"),
        ('{"weight_map": {"a": 3}}', "its weight_map must name"),
        ('{"weight_map": {"a": "../../model.safetensors"}}', "safetensors files beside it"),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', "safetensors files beside it"),
        (
            '{"weight_map": {"a.b": "model-00001-of-00002.safetensors"}}',
            r"promises a\.b, which its files do not hold",
        ),
    ],
)
def test_a_damaged_index(index: str, said: str, tmp_path: Path) -> None:
    (write_shards(tmp_path) / "model.safetensors.index.json").write_text(index, "utf-8")
    with pytest.raises(MelismaError, match=said):
        PublishedTensors(tmp_path)


def header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no whole safetensors file"),
        (b"1234", "no whole safetensors file"),
        (b"\xff" * 40, "no whole safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (header(b'{"a": '), "damaged header"),
        (header(b"[]"), "damaged header"),
        (header(b'{"a": {"dtype": "F32"}}'), "damaged header"),
        (header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'), "damaged header"),
        (header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}'), "damaged header"),
        (header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + b"123", "cut short"),
        (header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + b"12345", "damaged"),
    ],
)
def test_a_damaged_file_of_weights(data: bytes, said: str, tmp_path: Path) -> None:
    (write(tmp_path) / "model.safetensors").write_bytes(data)
    with pytest.raises(MelismaError, match=said):
        PublishedTensors(tmp_path)


def test_a_truncated_file_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(MelismaError, match="fetch it again"):
            PublishedTensors(tmp_path)
    path.write_bytes(whole[:-1])
    with pytest.raises(MelismaError, match=f"{len(whole) - 1} bytes where {len(whole)} are"):
        PublishedTensors(tmp_path)


def test_damage_that_only_the_tensor_shows_is_said(tmp_path: Path) -> None:
    """A header whose sizes contradict one another: seen by safetensors itself."""
    text = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}'
    (write(tmp_path) / "model.safetensors").write_bytes(header(text) + b"1234")
    with pytest.raises(MelismaError, match="is damaged"):
        PublishedTensors(tmp_path).get("a")


def test_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    found = PublishedTensors(write(tmp_path))
    assert "decoder.three" not in found
    for ask in (found.get, found.shape):
        with pytest.raises(MelismaError, match=r"holds no tensor decoder\.three"):
            ask("decoder.three")


def test_tied_names_are_interchangeable(tmp_path: Path) -> None:
    found = PublishedTensors(write(tmp_path))
    shared, tied = "text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight"
    assert tied in found
    assert tied not in found.names()
    assert torch.equal(found.get(tied), tensors()[shared])
    for name in (shared, tied):
        expect_tensors(found, {name: (6, 4)}, prefix="text_encoder.")
    both = {shared: torch.zeros(2), tied: torch.zeros(2)}
    save_file(both, tmp_path / "model.safetensors")
    for name in (shared, tied):
        expect_tensors(PublishedTensors(tmp_path), {name: (2,)})


def test_what_does_not_fit_is_counted_and_named(tmp_path: Path) -> None:
    found = PublishedTensors(write(tmp_path))
    right = {name: tuple(tensor.shape) for name, tensor in tensors().items()}
    expect_tensors(found, right)
    expect_tensors(found, {"decoder.two": (2, 2)}, prefix="decoder.two")
    expect_tensors(found, {"text_encoder.shared.weight": (6, 4)}, spare=("decoder.",))
    wrong = right | {"decoder.two": (2, 3), **{f"decoder.new{n}": (1,) for n in range(5)}}
    del wrong["decoder.count"]
    with pytest.raises(MelismaError, match="do not fit") as refused:
        expect_tensors(found, wrong, prefix="decoder.")
    said = str(refused.value)
    assert "5 missing (decoder.new0, decoder.new1, decoder.new2 and 2 more)" in said
    assert "1 of another shape (decoder.two is 2x2 instead of 2x3)" in said
    assert "1 too many (decoder.count)" in said
    assert "text_encoder" not in said
