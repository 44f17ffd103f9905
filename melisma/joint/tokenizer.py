"""Text tokenizer: byte-level BPE with 8,192 entries, in which tempi are single tokens.

Sentences are NFKC-normalized and lower-cased. Integers from 40 to 220 are single tokens, because a
tempo should not be split; other numbers are split into digits. The byte level leaves nothing
unknown: other scripts and emoji merely take more tokens. Byte-pair encoding: Sennrich et al.,
1508.07909; on bytes: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019),
section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from melisma.values.errors import MelismaError

VOCABULARY = 8_192
MAX_TOKENS = 96
"""Longer prompts are truncated (chosen: about 70 words; captions stay under 60)."""
PADDING = 0
NUMBERS = range(40, 221)
"""Integers that are single tokens: tempi in bpm."""

_NUMBER = r"(?<![0-9.,])(?:[4-9][0-9]|1[0-9]{2}|2[01][0-9]|220)(?![0-9]|[.,][0-9])"
_NUMBER_REPEATS = 300
"""Occurrences of each number in the training text, so that it is merged before rare words."""


def train_tokenizer(sentences: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Trains a tokenizer on sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{_NUMBER}|[0-9]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_with_numbers(sentences), trainer)
    return tokenizer


def _with_numbers(sentences: Iterable[str]) -> Iterator[str]:
    numbers = " ".join(map(str, NUMBERS))
    for _ in range(_NUMBER_REPEATS):
        yield numbers
    yield from sentences


def read_tokenizer(stored: bytes, vocabulary: int, name: str) -> Tokenizer:
    """Reads a tokenizer.

    Args:
        stored: As `Tokenizer.to_str` writes it, UTF-8.
        vocabulary: Number of entries that the text tower knows.
        name: Name of the file, for messages.

    Raises:
        MelismaError: It is no tokenizer, or has more entries.
    """
    try:
        tokenizer = Tokenizer.from_str(stored.decode("utf-8"))
    except Exception as error:  # the package raises nothing more special
        raise MelismaError(f"the tokenizer in {name} is damaged: fetch the file again") from error
    if max(tokenizer.get_vocab().values(), default=0) >= vocabulary:
        raise MelismaError(
            f"the tokenizer in {name} has more entries than its text tower, which has "
            f"{vocabulary}: they belong to different models"
        )
    return tokenizer


def encode_words(tokenizer: Tokenizer, sentences: Sequence[str]) -> list[list[int]]:
    """Token ids of each sentence, at most `MAX_TOKENS`; never empty."""
    encoded = tokenizer.encode_batch(list(sentences))
    return [e.ids[:MAX_TOKENS] or [PADDING] for e in encoded]


def pad_tokens(encoded: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Pads ids of different lengths: (tokens int64, present bool), both [batch, token]."""
    longest = max(len(ids) for ids in encoded)
    tokens = torch.full((len(encoded), longest), PADDING, dtype=torch.long, device="cpu")
    present = torch.zeros(len(encoded), longest, dtype=torch.bool, device="cpu")
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)] = torch.tensor(list(ids), dtype=torch.long, device="cpu")
        present[row, : len(ids)] = True
    return tokens, present
