"""Text encoder of published models: the tokenizer and the T5 encoder of a checkpoint.

Input: texts. Output: the hidden states of their tokens, which a token model reads by
cross-attention (MusicGen, 2306.05284, section 2.3; T5, 1910.10683). The tokenizer is the
checkpoint's own tokenizer.json; every text ends with an end token, as T5 was trained. An empty text
has no states at all: these models were trained with that as the unconditional case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from tokenizers import Tokenizer
from torch import Tensor

from melisma.files.transformers_checkpoint import (
    PublishedTensors,
    expect_tensors,
    python_command,
    read_config,
    read_tokenizer_config,
)
from melisma.nn.precision import COMPUTE_DTYPES
from melisma.nn.t5 import T5Encoder, T5Settings, load_t5_encoder, published_shapes
from melisma.values.errors import MelismaError

PREFIX = "text_encoder."
"""Prefix of T5's tensor names in a checkpoint of a larger model."""
LONGEST_TOKENS = 512
"""Most tokens of a text, end token included, if the tokenizer sets no limit: what T5 was trained on
(1910.10683, section 3.1.2)."""
LARGEST_BOUND_TOKENS = 4_096
"""A higher limit of the tokenizer is ignored (transformers writes 10^30 for "no limit"; chosen)."""


@dataclass(frozen=True, kw_only=True)
class EncodedTexts:
    """Output of the encoder for a batch of texts."""

    states: Tensor
    """Hidden states, float32 [batch, token, width]; zero at padding."""
    lengths: Tensor
    """Tokens of each text, end token included, int64 [batch]; 0 for an empty text."""
    remarks: tuple[str, ...] = ()
    """Messages to the user: texts that were truncated."""

    @property
    def present(self) -> Tensor:
        """Attention mask, bool [batch, token]: False at padding."""
        position = torch.arange(self.states.shape[1], device=self.lengths.device, dtype=torch.long)
        return position < self.lengths[:, None]


@final
class T5TextEncoder:
    """Tokenizer and T5 encoder of a published checkpoint: texts to `EncodedTexts`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: T5Encoder,
        *,
        end: int,
        longest_tokens: int = LONGEST_TOKENS,
    ) -> None:
        """
        Args:
            tokenizer: its truncation and padding are switched off.
            encoder: the encoder, on any device.
            end: id of the end token.
            longest_tokens: longer texts are truncated to this number, end token included.
        """
        self.tokenizer, self.encoder = tokenizer, encoder
        self.end, self.longest_tokens = end, longest_tokens
        # A tokenizer.json may carry limits from its last use.
        tokenizer.no_truncation()
        tokenizer.no_padding()

    @property
    def width(self) -> int:
        """Width of the states."""
        return self.encoder.settings.width

    def tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], tuple[str, ...]]:
        """Tokenizes texts.

        Returns:
            Token ids of each text with the end token (none for an empty text), and a message for
            each text that was truncated.
        """
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        rows, remarks = [], []
        for text, pieces in zip(texts, encoded, strict=True):
            ids = pieces.ids[: self.longest_tokens - 1]
            if len(ids) < len(pieces.ids):
                read = text[: pieces.offsets[len(ids) - 1][1]]
                remarks.append(
                    f"a text of {len(pieces.ids)} tokens was cut to {len(ids)}, the most that "
                    f'this model reads: the last words read are "{read[-30:]}"'
                )
            rows.append([*ids, self.end] if text.strip() else [])
        return rows, tuple(remarks)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Encodes texts; a text of white space alone counts as empty.

        Args:
            texts: one or more.

        Returns:
            The hidden states, on the encoder's device.

        Raises:
            MelismaError: for an empty list, or a string instead of a list.
        """
        if not texts or isinstance(texts, str):
            raise MelismaError("give a list of one text or more, which may be empty")
        rows, remarks = self.tokens(texts)
        device = self.encoder.table.weight.device
        lengths = torch.tensor([len(row) for row in rows], device=device, dtype=torch.long)
        # At least one position, so that a batch of empty texts has a shape like all others.
        longest = max(1, max(map(len, rows)))
        tokens = torch.tensor(
            [row + [0] * (longest - len(row)) for row in rows], device=device, dtype=torch.long
        )
        present = torch.arange(longest, device=device, dtype=torch.long) < lengths[:, None]
        states = self.encoder(tokens, present)
        # Selected, not multiplied by 0: states of empty rows may be nan.
        states = torch.where(present[..., None], states, torch.zeros_like(states))
        return EncodedTexts(states=states, lengths=lengths, remarks=remarks)


def read_text_encoder(
    folder: Path, tensors: PublishedTensors | None = None, *, precision: str = "float32"
) -> T5TextEncoder:
    """Reads tokenizer and text encoder of a checkpoint.

    Args:
        folder: the checkpoint.
        tensors: its tensors, if they are open already.
        precision: of the encoder's matrices, one of `COMPUTE_DTYPES`; bfloat16 halves their memory.

    Raises:
        MelismaError: for another precision, a missing tokenizer or one of another model, and
            missing tensors or those of other shapes.
    """
    if precision not in COMPUTE_DTYPES:
        raise MelismaError(f'the precision is {" or ".join(COMPUTE_DTYPES)}, not "{precision}"')
    config = read_config(folder).get("text_encoder")
    if not isinstance(config, dict):
        raise MelismaError(f"{folder}/config.json describes no text_encoder: it is not whole")
    settings = T5Settings.from_config(config)
    tokenizer = read_tokenizer(folder)
    entries = tokenizer.get_vocab_size(with_added_tokens=True)
    if entries > settings.vocabulary:
        raise MelismaError(
            f"the tokenizer in {folder} has {entries} entries and the text encoder "
            f"{settings.vocabulary}: they belong to different models"
        )
    tensors = tensors or PublishedTensors(folder)
    expect_tensors(tensors, published_shapes(settings, PREFIX), prefix=PREFIX)
    encoder = load_t5_encoder(
        settings, tensors.get, prefix=PREFIX, matrices=COMPUTE_DTYPES[precision]
    )
    known = read_tokenizer_config(folder)
    return T5TextEncoder(
        tokenizer,
        encoder,
        end=_end_token(folder, tokenizer, known),
        longest_tokens=_bound(known),
    )


def read_tokenizer(folder: Path) -> Tokenizer:
    """Reads the tokenizer of a checkpoint.

    Raises:
        MelismaError: where there is no valid tokenizer.json; with a spiece.model, the message has
            the command that converts it.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        if (folder / "spiece.model").is_file():
            command = python_command(
                f"from transformers import T5TokenizerFast as T; f = {str(folder)!r}; "
                "T.from_pretrained(f).save_pretrained(f)"
            )
            raise MelismaError(
                f"{folder} has its tokenizer only as spiece.model: write tokenizer.json beside it "
                f"once, where transformers and sentencepiece are installed, {command}"
            )
        raise MelismaError(f"{folder} holds no tokenizer.json: fetch the whole checkpoint")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise MelismaError(
            f"{path} is no tokenizer (truncated or damaged): fetch it again"
        ) from error


def _end_token(folder: Path, tokenizer: Tokenizer, known: Mapping[str, Any]) -> int:
    name = known.get("eos_token", "</s>")
    if isinstance(name, dict):  # older files describe the token as an object
        name = name.get("content")
    end = tokenizer.token_to_id(name) if isinstance(name, str) else None
    if end is None:
        raise MelismaError(f"the tokenizer in {folder} has no end token ({name}): it is not T5's")
    return end


def _bound(known: Mapping[str, Any]) -> int:
    """Most tokens of a text."""
    bound = known.get("model_max_length")
    if not isinstance(bound, int) or isinstance(bound, bool):
        return LONGEST_TOKENS
    return bound if 2 <= bound <= LARGEST_BOUND_TOKENS else LONGEST_TOKENS
