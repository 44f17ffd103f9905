"""The residual quantizer: its codebooks follow the data, its levels add up."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from melisma.nn.quantizer import ResidualQuantizer

WIDTH, LEVELS, VOCABULARY = 4, 4, 16


def clouds(seed: int, vectors: int = 400) -> Tensor:
    """Latents round 24 centres, [1, frame, width]."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(24, WIDTH, generator=torch.Generator().manual_seed(9))
    picks = torch.randint(24, (vectors,), generator=generator)
    return (centres[picks] + 0.3 * torch.randn(vectors, WIDTH, generator=generator))[None]


def trained(updates: int = 40) -> ResidualQuantizer:
    quantizer = ResidualQuantizer(width=WIDTH, levels=LEVELS, vocabulary=VOCABULARY)
    generator = torch.Generator().manual_seed(0)
    for number in range(updates):
        quantizer(clouds(number), torch.tensor([LEVELS]), generator=generator)
    return quantizer


def test_every_level_comes_nearer() -> None:
    quantizer, latent = trained(), clouds(1_000)
    tokens = quantizer.encode(latent, LEVELS)
    errors = [
        float((quantizer.decode(tokens[:, :n]) - latent).square().mean())
        for n in range(1, LEVELS + 1)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.1 * float(latent.square().mean())


def test_training_encoding_and_decoding_agree() -> None:
    quantizer, latent = trained(), clouds(1_000)
    batch = torch.cat([latent, latent])
    found = quantizer(batch, torch.tensor([LEVELS, 2]))
    tokens = quantizer.encode(batch, LEVELS)
    assert torch.equal(found.tokens, tokens)
    torch.testing.assert_close(found.latent[0], quantizer.decode(tokens)[0])
    torch.testing.assert_close(found.latent[1], quantizer.decode(tokens[:, :2])[1])
    assert torch.equal(quantizer.encode(batch, 2), tokens[:, :2])


def test_commitment_is_the_distance_to_all_codes_whatever_dropout_leaves() -> None:
    quantizer, latent = trained(), clouds(1_000)
    distance = (latent - quantizer.decode(quantizer.encode(latent, LEVELS))).square().mean()
    for depth in (1, LEVELS):
        commitment = quantizer(latent, torch.tensor([depth])).commitment
        torch.testing.assert_close(commitment, distance)


def test_gradients_pass_straight_through() -> None:
    quantizer = trained()
    latent = clouds(1_000).requires_grad_()
    quantizer(latent, torch.tensor([2])).latent.sum().backward()
    assert latent.grad is not None
    torch.testing.assert_close(latent.grad, torch.ones_like(latent))


def test_codebooks_rest_without_a_generator() -> None:
    quantizer = trained()
    before = quantizer.codes.clone()
    quantizer(clouds(1_000), torch.tensor([LEVELS]))
    assert torch.equal(quantizer.codes, before)


def test_codes_that_nobody_uses_move_onto_the_data() -> None:
    quantizer = ResidualQuantizer(width=WIDTH, levels=1, vocabulary=VOCABULARY)
    quantizer.codes.fill_(100.0)
    quantizer.codes[0, 0] = 0.0
    # Nobody has used them for a long time.
    quantizer.counts.fill_(0.04)
    quantizer.sums.copy_(0.04 * quantizer.codes)
    generator = torch.Generator().manual_seed(0)
    assert len(quantizer.encode(clouds(0), 1).unique()) == 1
    for number in range(150):
        quantizer(clouds(number, vectors=64), torch.tensor([1]), generator=generator)
    assert len(quantizer.encode(clouds(1_000), 1).unique()) > VOCABULARY // 2
    assert float(quantizer.codes.abs().max()) < 20


def test_training_goes_on_from_shipped_codes() -> None:
    quantizer, latent = trained(), clouds(1_000)
    again = ResidualQuantizer(width=WIDTH, levels=LEVELS, vocabulary=VOCABULARY)
    again.load_state_dict(quantizer.state_dict())
    generator = torch.Generator().manual_seed(0)
    again(latent, torch.tensor([LEVELS]), generator=generator)
    moved = (again.codes - quantizer.codes).norm() / quantizer.codes.norm()
    assert 0 < float(moved) < 0.1


def test_what_is_shipped_are_the_codes_alone() -> None:
    assert set(trained(1).state_dict()) == {"codes"}
