"""A whole model of random weights, small enough for tests, written as `melisma train` writes it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from melisma.codec import Codec, CodecSettings
from melisma.files.checkpoint import Checkpoint, write_checkpoint
from melisma.joint import (
    JointEmbedding,
    MusicTower,
    MusicTowerSettings,
    TextTower,
    TextTowerSettings,
)
from melisma.joint.quantizer import VectorQuantizer
from melisma.joint.tokenizer import train_tokenizer
from melisma.lm import ConditioningSettings, TokenModel, TokenModelSettings
from melisma.semantic import SemanticEncoder, SemanticSettings, SemanticTokenizer
from melisma.semantic.tokenizer import tokenizer_checkpoint
from melisma.tokenizers import AudioTokenizers, TokenizerPaths

VOCABULARY = 24
CODEC = CodecSettings(
    encoder_width=16, encoder_blocks=1, latent_width=16, latent_blocks=1, levels=3,
    vocabulary=VOCABULARY, code_width=4, decoder_slow_width=16, decoder_slow_blocks=1,
    decoder_width=16, decoder_blocks=1, decoder_expansion=2,
)  # fmt: skip
SEMANTIC = SemanticSettings(
    width=16, layers=2, heads=2, token_layer=1, bottleneck_width=8, projection_codes=16,
    projection_width=4, levels=2, vocabulary=VOCABULARY,
)  # fmt: skip
SOURCE = ConditioningSettings(source_levels=2, source_vocabulary=VOCABULARY)
STAGES = {
    "semantic_lm": TokenModelSettings(
        levels=2, vocabulary=VOCABULARY, width=16, layers=1, heads=2, window_frames=20
    ),
    "coarse_lm": TokenModelSettings(
        levels=2, vocabulary=VOCABULARY, width=16, layers=1, heads=2, window_frames=20,
        conditions=SOURCE,
    ),
    "fine_lm": TokenModelSettings(
        levels=3, first_sampled_level=2, causal=False, pattern="parallel", vocabulary=VOCABULARY,
        width=16, layers=1, heads=2, window_frames=20, conditions=SOURCE,
    ),
}  # fmt: skip


def write_model(folder: Path) -> None:
    """All six files."""
    torch.manual_seed(0)
    paths = TokenizerPaths.of(folder)
    codec = Codec(CODEC)
    codec.quantizer.codes.normal_()
    tensors = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    write_checkpoint(
        paths.codec, Checkpoint(kind="codec", settings=dataclasses.asdict(CODEC), tensors=tensors)
    )
    weights = SemanticEncoder(SEMANTIC).state_dict()
    centroids = torch.randn(2, VOCABULARY, 8)
    write_checkpoint(paths.semantic, tokenizer_checkpoint(SEMANTIC, weights, centroids))
    _joint(SemanticTokenizer.read(paths.semantic).fingerprint).write(paths.joint)
    fingerprints = AudioTokenizers.read(paths).fingerprints
    torch.manual_seed(4)  # of these the stages sample many different tokens
    for name, settings in STAGES.items():
        model = TokenModel(settings)
        for parameter in model.parameters():
            if parameter.ndim == 2:  # also where a fresh model is silent
                torch.nn.init.normal_(parameter, std=0.3)
        checkpoint = Checkpoint(
            kind=name,
            settings=dataclasses.asdict(settings),
            tensors=model.state_dict(),
            fingerprints=fingerprints,
        )
        write_checkpoint(folder / f"{name}.safetensors", checkpoint)


def _joint(semantic_fingerprint: str) -> JointEmbedding:
    words = train_tokenizer(["a slow waltz for piano", "fast drums at 120 bpm"], vocabulary=600)
    text = TextTower(TextTowerSettings(vocabulary=600, width=16, layers=1, heads=2))
    music = MusicTower(
        MusicTowerSettings(trunk_width=2 * SEMANTIC.width, width=16, layers=1, heads=2)
    )
    quantiser = VectorQuantizer(levels=3, entries=8)
    vectors = torch.nn.functional.normalize(torch.randn(40, 128), dim=-1)
    quantiser.fit(vectors, torch.Generator().manual_seed(0), rounds=3)
    joint = JointEmbedding(text, music, quantiser, words)
    joint.semantic_fingerprint = semantic_fingerprint
    return joint
