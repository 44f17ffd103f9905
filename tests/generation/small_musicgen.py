"""Random MusicGen checkpoints of every kind, small enough for tests, written by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

VOCABULARY = 32
"""Entries of a codebook."""
WORDS = ("<pad>", "</s>", "<unk>", "a", "slow", "piano", "waltz", "loud", "drums", "guitar", "with")


def write_tokenizer(folder: Path) -> None:
    """Words as single tokens."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def written(folder: Path, *, melody: bool = False, stereo: bool = False, seed: int = 0) -> Any:
    """Writes a checkpoint and returns transformers' own model of it."""
    import transformers as t

    torch.manual_seed(seed)
    text = t.T5Config(
        vocab_size=len(WORDS), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3,
        feed_forward_proj="relu", dropout_rate=0.0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    codec = t.EncodecConfig(
        sampling_rate=32_000, num_filters=2, num_residual_layers=1, upsampling_ratios=[8, 5, 4, 4],
        codebook_size=VOCABULARY, codebook_dim=8, hidden_size=8, num_lstm_layers=1,
        target_bandwidths=[1.1], use_causal_conv=False, norm_type="weight_norm",
    )  # fmt: skip
    kind = t.MusicgenMelodyDecoderConfig if melody else t.MusicgenDecoderConfig
    levels = codec.num_quantizers
    decoder = kind(
        vocab_size=VOCABULARY, num_codebooks=levels * (2 if stereo else 1), hidden_size=32,
        ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, audio_channels=2 if stereo else 1,
        pad_token_id=VOCABULARY, bos_token_id=VOCABULARY, dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, max_position_embeddings=256,
    )  # fmt: skip
    parts = {"text_encoder": text, "audio_encoder": codec, "decoder": decoder}
    if melody:
        config = t.MusicgenMelodyConfig(**parts, num_chroma=12, chroma_length=20)
        model = t.MusicgenMelodyForConditionalGeneration(config)
    else:
        model = t.MusicgenForConditionalGeneration(t.MusicgenConfig(**parts))
    for name, tensor in model.state_dict().items():
        # Weights of a fresh model are so small that everything would be equally likely.
        if tensor.is_floating_point() and tensor.ndim >= 2 and "codebook" not in name:
            torch.nn.init.normal_(tensor, std=0.3)
        if name.endswith("codebook.embed"):
            torch.nn.init.normal_(tensor)
    model.generation_config.decoder_start_token_id = VOCABULARY
    model.generation_config.pad_token_id = VOCABULARY
    model.generation_config.bos_token_id = VOCABULARY
    model.generation_config.guidance_scale = 3.0
    model.generation_config.do_sample = False
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(folder, safe_serialization=True)
    write_tokenizer(folder)
    return model
