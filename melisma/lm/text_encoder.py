"""Words as published models read them: the tokenizer and the T5 encoder of a checkpoint.

Enters: texts. Leaves: for each, the states of its word pieces, which a token model looks at by
cross-attention (MusicGen, 2306.05284, section 2.3: T5, 1910.10683). The tokenizer is the
checkpoint's own tokenizer.json; an end token closes every text, as T5 was trained. An empty text
has no state at all: that is how these models know a piece without any words.
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
from melisma.nn.t5 import T5Encoder, T5Settings, published_shapes, t5_encoder

PREFIX = "text_encoder."
"""How the names of T5's tensors begin in a checkpoint of a larger model."""
LONGEST_TOKENS = 512
"""Word pieces of a text with its end token, where the tokenizer sets no bound of its own: what T5
was trained on (1910.10683, section 3.1.2)."""
LARGEST_BOUND_TOKENS = 4_096
"""A longer bound of the tokenizer is none (transformers writes 10^30 for "no bound"; chosen)."""


@dataclass(frozen=True, kw_only=True)
class WordStates:
    """What the encoder makes of a batch of texts."""

    states: Tensor
    """float32 [batch, token, width]; zero where a text has ended."""
    lengths: Tensor
    """Word pieces of each text with its end token, int64 [batch]; 0 for an empty text."""
    remarks: tuple[str, ...] = ()
    """What a person should know: texts that were cut."""

    @property
    def present(self) -> Tensor:
        """Where there is a state, bool [batch, token]."""
        place = torch.arange(self.states.shape[1], device=self.lengths.device)
        return place < self.lengths[:, None]


@final
class PublishedWords:
    """Texts -> `WordStates`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: T5Encoder,
        *,
        end: int,
        longest_tokens: int = LONGEST_TOKENS,
    ) -> None:
        """`end`: the end token. `longest_tokens`: where texts are cut, end token included."""
        self.tokenizer, self.encoder = tokenizer, encoder
        self.end, self.longest_tokens = end, longest_tokens
        # A tokenizer.json may carry bounds from how it was last used.
        tokenizer.no_truncation()
        tokenizer.no_padding()

    @property
    def width(self) -> int:
        """Width of the states."""
        return self.encoder.settings.width

    def tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], tuple[str, ...]]:
        """Word pieces of each text with the end token, none for an empty text; and a remark for
        each text that was cut."""
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        rows, remarks = [], []
        for text, pieces in zip(texts, encoded, strict=True):
            kept = pieces.ids[: self.longest_tokens - 1]
            if len(kept) < len(pieces.ids):
                read = text[: pieces.offsets[len(kept) - 1][1]]
                remarks.append(
                    f"a text of {len(pieces.ids)} word pieces was cut to {len(kept)}, the most "
                    f'that this model reads: the last words read are "{read[-30:]}"'
                )
            rows.append([*kept, self.end] if text.strip() else [])
        return rows, tuple(remarks)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> WordStates:
        """States of texts; white space alone is an empty text. `ValueError` where there is no text.

        The states are where the encoder is.
        """
        if not texts or isinstance(texts, str):
            raise ValueError("give a list of one text or more, which may be empty")
        rows, remarks = self.tokens(texts)
        device = self.encoder.table.weight.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        # At least one place, so that a batch without any words has a shape like all others.
        longest = max(1, max(map(len, rows)))
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        present = torch.arange(longest, device=device) < lengths[:, None]
        states = self.encoder(tokens, present)
        # Chosen among, not multiplied by: what stands in empty rows may be any number.
        states = torch.where(present[..., None], states, torch.zeros_like(states))
        return WordStates(states=states, lengths=lengths, remarks=remarks)


def read_words(
    folder: Path, tensors: PublishedTensors | None = None, *, precision: str = "float32"
) -> PublishedWords:
    """Tokenizer and text encoder of a checkpoint.

    `tensors`: its tensors, where they are open already. `precision` of the encoder's matrices: one
    of `COMPUTE_DTYPES`; bfloat16 halves their memory. Raises
    `ValueError` for another precision, no tokenizer, one that does not belong to the encoder, and
    whatever `musicgen_weights.py` finds wrong.
    """
    if precision not in COMPUTE_DTYPES:
        raise ValueError(f'the precision is {" or ".join(COMPUTE_DTYPES)}, not "{precision}"')
    config = read_config(folder).get("text_encoder")
    if not isinstance(config, dict):
        raise ValueError(f"{folder}/config.json describes no text_encoder: it is not whole")
    settings = T5Settings.from_config(config)
    tokenizer = read_tokenizer(folder)
    entries = tokenizer.get_vocab_size(with_added_tokens=True)
    if entries > settings.vocabulary:
        raise ValueError(
            f"the tokenizer in {folder} has {entries} entries and the text encoder "
            f"{settings.vocabulary}: they belong to different models"
        )
    tensors = tensors or PublishedTensors(folder)
    expect_tensors(tensors, published_shapes(settings, PREFIX), prefix=PREFIX)
    encoder = t5_encoder(settings, tensors.get, prefix=PREFIX, matrices=COMPUTE_DTYPES[precision])
    known = read_tokenizer_config(folder)
    return PublishedWords(
        tokenizer,
        encoder,
        end=_end_token(folder, tokenizer, known),
        longest_tokens=_bound(known),
    )


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint; `ValueError` says what is wrong, and how to make one from
    spiece.model."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        if (folder / "spiece.model").is_file():
            command = python_command(
                f"from transformers import T5TokenizerFast as T; f = {str(folder)!r}; "
                "T.from_pretrained(f).save_pretrained(f)"
            )
            raise ValueError(
                f"{folder} has its tokenizer only as spiece.model: write tokenizer.json beside it "
                f"once, where transformers and sentencepiece are installed, {command}"
            )
        raise ValueError(f"{folder} holds no tokenizer.json: fetch the whole checkpoint")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(
            f"{path} is no tokenizer (truncated or damaged): fetch it again"
        ) from error


def _end_token(folder: Path, tokenizer: Tokenizer, known: Mapping[str, Any]) -> int:
    name = known.get("eos_token", "</s>")
    if isinstance(name, dict):  # older files describe the token as an object
        name = name.get("content")
    end = tokenizer.token_to_id(name) if isinstance(name, str) else None
    if end is None:
        raise ValueError(f"the tokenizer in {folder} has no end token ({name}): it is not T5's")
    return end


def _bound(known: Mapping[str, Any]) -> int:
    """Where texts are cut, in word pieces."""
    bound = known.get("model_max_length")
    if not isinstance(bound, int) or isinstance(bound, bool):
        return LONGEST_TOKENS
    return bound if 2 <= bound <= LARGEST_BOUND_TOKENS else LONGEST_TOKENS
