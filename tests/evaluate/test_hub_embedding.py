"""Public encoders, as tiny random checkpoints in a folder."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from melisma.evaluate.models import hub_embedding
from melisma.evaluate.models.embeddings import named_embedding
from melisma.values import Waveform
from melisma.values.errors import MelismaError


@pytest.fixture
def hub() -> Any:
    found = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return found


def write_wav2vec2(hub: Any, folder: Path) -> Path:
    config = hub.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(20, 16), conv_kernel=(40, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size=8,
    )  # fmt: skip
    hub.Wav2Vec2Model(config).save_pretrained(folder)
    hub.Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(folder)
    return folder


def write_clap(hub: Any, folder: Path, fused: bool = False) -> Path:
    audio = hub.ClapAudioConfig(
        spec_size=64, num_mel_bins=16, patch_size=4, patch_stride=(4, 4), hidden_size=16,
        patch_embeds_hidden_size=4, depths=[1, 1, 1], num_attention_heads=[1, 1, 1], window_size=4,
        enable_fusion=fused, fusion_type="daf_2d" if fused else None,
        enable_patch_fusion=fused, num_hidden_layers=3, aff_block_r=1,
    )  # fmt: skip
    text = hub.ClapTextConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=16,
    )  # fmt: skip
    config = hub.ClapConfig(
        text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=12
    )
    hub.ClapModel(config).save_pretrained(folder)
    hub.ClapFeatureExtractor(
        feature_size=16, hop_length=7_500, truncation="fusion" if fused else "rand_trunc"
    ).save_pretrained(folder)
    return folder


def piece(seconds: float = 10.0) -> Waveform:
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.normal(size=(2, int(seconds * 44_100)))
    return Waveform(samples=samples.astype(np.float32), rate_hz=44_100)


def test_an_encoder_gives_the_mean_of_its_last_state(hub: Any, tmp_path: Path) -> None:
    folder = write_wav2vec2(hub, tmp_path / "encoder")
    embedding = named_embedding(f"hub:{folder}")
    assert (embedding.name, embedding.rate_hz, embedding.width) == ("hub:encoder", 16_000, 16)
    vectors = embedding.embed(piece())
    assert vectors.shape == (3, 16)
    np.testing.assert_array_equal(vectors, embedding.embed(piece()))
    copied = write_wav2vec2(hub, tmp_path / "other")
    assert named_embedding(f"hub:{copied}").fingerprint != embedding.fingerprint
    assert named_embedding(f"hub:{folder}").fingerprint == embedding.fingerprint


@pytest.mark.parametrize("fused", [False, True])
def test_clap_gives_its_audio_projection(hub: Any, tmp_path: Path, fused: bool) -> None:
    folder = write_clap(hub, tmp_path / "clap", fused)
    embedding = named_embedding(f"hub:{folder}")
    assert (embedding.rate_hz, embedding.width, embedding.window_seconds) == (48_000, 12, 10.0)
    np.random.seed(0)  # the extractor of transformers uses numpy's global random state
    first = embedding.embed(piece(15.0))
    np.random.seed(1)
    assert first.shape == (2, 12)
    np.testing.assert_array_equal(first, embedding.embed(piece(15.0)))


def test_pickled_weights_are_refused_with_the_command_that_converts(
    hub: Any, tmp_path: Path
) -> None:
    folder = write_wav2vec2(hub, tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(MelismaError, match="safetensors"):
        named_embedding(f"hub:{folder}")


def test_code_that_comes_with_a_model_is_not_run(hub: Any, tmp_path: Path) -> None:
    folder = write_wav2vec2(hub, tmp_path / "encoder")
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\n", encoding="utf-8")
    config = '{"model_type": "mert_model", "auto_map": {"AutoConfig": "own.OwnConfig"}}'
    (folder / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(MelismaError, match="never run"):
        named_embedding(f"hub:{folder}")
    assert not mark.exists()


def test_a_model_that_is_no_encoder_of_sound_is_an_error(hub: Any, tmp_path: Path) -> None:
    config = hub.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    hub.BertModel(config).save_pretrained(tmp_path / "words")
    with pytest.raises(MelismaError, match="encoder of sound"):
        named_embedding(f"hub:{tmp_path / 'words'}")
    hub.Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(tmp_path / "words")
    with pytest.raises(MelismaError, match="takes sound alone"):
        named_embedding(f"hub:{tmp_path / 'words'}")


@pytest.mark.usefixtures("hub")
def test_missing_models_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(MelismaError, match="hf download someone/encoder"):
        named_embedding("hub:someone/encoder@v1")
    with pytest.raises(MelismaError, match=r"no config\.json"):
        named_embedding(f"hub:{tmp_path}")


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        hub_embedding.importlib.util,
        "find_spec",
        lambda name: None if name == "transformers" else find(name),
    )
    with pytest.raises(MelismaError, match=r"pip install \"melisma\[hub\]\""):
        named_embedding("hub:someone/encoder")
