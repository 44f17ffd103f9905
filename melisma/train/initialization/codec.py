"""Initialization of the codec as the best linear codec, by principal components and least squares.

With zero ConvNeXt blocks the codec is a product of matrices, and the best such product can be
computed in seconds. Gradient descent from random weights learned loudness first and then nothing
else for thousands of updates: the few directions that had grown were so large that quantization
noise drowned all others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from melisma.codec.model import LOG_CENTRE, LOG_SPREAD, MAGNITUDES_PER_FRAME, Codec, log_magnitudes
from melisma.nn.convolution import merge_frames
from melisma.semantic.tokenizer import cluster

RIDGE = 1e-3
"""Ridge penalty of the least squares, relative to the mean variance."""


@torch.no_grad()
def start_linear(codec: Codec, sound: Tensor, generator: torch.Generator) -> None:
    """Sets the matrices and codebooks of a codec, in place.

    Args:
        codec: on the CPU.
        sound: crops [batch, sample], a multiple of 960 samples.
        generator: of the clustering.
    """
    encoder = codec.encoder
    context = encoder.initial_state(len(sound))[0]
    spectra = encoder.spectra(torch.cat([context, sound], dim=1)).double()
    fast = _project(encoder.in_proj, spectra)
    slow = _project(encoder.join, merge_frames(fast, 2))
    latent = _project(encoder.out_proj, slow)
    spread = latent.flatten(0, 1).std(dim=0).square().mean().sqrt()
    encoder.out_proj.weight.div_(spread)
    encoder.out_proj.bias.div_(spread)
    latent = latent / spread

    targets = (log_magnitudes(sound).double() - LOG_CENTRE) / LOG_SPREAD
    targets = merge_frames(targets, MAGNITUDES_PER_FRAME)
    # The decoder is one frame late: it predicts the magnitudes of frame t from latent t + 1, and
    # its blocks remember latent t. The linear part has only the newest latent, t + 1, so it is
    # fitted to the magnitudes of frame t from that.
    inputs = latent[:, 1:].flatten(0, 1)
    outputs = targets[:, :-1].flatten(0, 1)
    mean_in, mean_out = inputs.mean(dim=0), outputs.mean(dim=0)
    centred = inputs - mean_in
    gram = centred.T @ centred
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram, centred.T @ (outputs - mean_out)).T
    bias = mean_out - solution @ mean_in
    _factorise(codec, solution, bias)
    codes = cluster(
        latent.flatten(0, 1).float(),
        levels=codec.settings.levels,
        vocabulary=codec.settings.vocabulary,
        generator=generator,
        rounds=10,
    )
    codec.quantizer.set_codebooks(codes)


def _project(layer: torch.nn.Linear, inputs: Tensor) -> Tensor:
    """Sets a layer to the principal components of its inputs [batch, frame, width].

    Returns:
        The layer's outputs.
    """
    rows = inputs.flatten(0, 1)
    mean = rows.mean(dim=0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    count = min(layer.out_features, vectors.shape[1])
    chosen = vectors[:, values.argsort(descending=True)[:count]].T
    weight = torch.zeros(layer.out_features, layer.in_features, dtype=torch.float64)
    weight[:count] = chosen
    layer.weight.copy_(weight)
    layer.bias.copy_(-(weight @ mean))
    return (inputs - mean) @ weight.T


def _factorise(codec: Codec, solution: Tensor, bias: Tensor) -> None:
    """Factorizes the map from a latent to the magnitudes of a frame, [4 * bin, width], into the
    decoder's matrices."""
    decoder = codec.decoder
    width = solution.shape[1]
    in_weight = torch.zeros(decoder.in_proj.out_features, width, dtype=torch.float64)
    in_weight[:width] = torch.eye(width, dtype=torch.float64)
    decoder.in_proj.weight.copy_(in_weight)
    decoder.in_proj.bias.zero_()
    parts = solution.reshape(MAGNITUDES_PER_FRAME, -1, width)
    offsets = bias.reshape(MAGNITUDES_PER_FRAME, -1)
    centre = offsets.mean(dim=0)
    stacked = torch.cat([*parts, (offsets - centre).T], dim=1)
    basis, _, _ = torch.linalg.svd(stacked, full_matrices=False)
    count = min(decoder.out_proj.in_features, basis.shape[1])
    out_weight = torch.zeros(basis.shape[0], decoder.out_proj.in_features, dtype=torch.float64)
    out_weight[:, :count] = basis[:, :count]
    decoder.out_proj.weight.copy_(out_weight)
    decoder.out_proj.bias.copy_(centre)
    split = torch.zeros(
        MAGNITUDES_PER_FRAME, decoder.out_proj.in_features, in_weight.shape[0], dtype=torch.float64
    )
    shift = torch.zeros(MAGNITUDES_PER_FRAME, decoder.out_proj.in_features, dtype=torch.float64)
    for i in range(MAGNITUDES_PER_FRAME):
        split[i, :count, :width] = basis[:, :count].T @ parts[i]
        shift[i, :count] = basis[:, :count].T @ (offsets[i] - centre)
    decoder.split.weight.copy_(split.flatten(0, 1))
    decoder.split.bias.copy_(shift.flatten())
