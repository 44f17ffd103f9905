"""Words -> word pieces: byte-pair encoding of 8,192 entries in which tempi are single tokens.

Sentences are NFKC-normalised and lower-cased. Whole numbers from 40 to 220 are single tokens,
because a tempo must not be pieced together; other numbers are read digit by digit. Pieces are made
of bytes, so that nothing is unreadable: another script or an emoji costs more pieces, that is all.
Byte-pair encoding: Sennrich et al., 1508.07909; on bytes: Radford et al., "Language Models are
Unsupervised Multitask Learners" (2019), section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

VOCABULARY = 8_192
LONGEST_TOKENS = 96
"""Longer prompts are cut (chosen: about 70 words; captions stay under 60)."""
PADDING = 0
NUMBERS = range(40, 221)
"""Whole numbers with a token of their own: tempi in bpm."""

_NUMBER = r"(?<![0-9.,])(?:[4-9][0-9]|1[0-9]{2}|2[01][0-9]|220)(?![0-9]|[.,][0-9])"
_NUMBER_REPEATS = 300
"""How often training reads each number, so that its pieces are joined before rare words' are."""


def train_tokenizer(sentences: Iterable[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learns the pieces from sentences."""
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


def encode_words(tokenizer: Tokenizer, sentences: Sequence[str]) -> list[list[int]]:
    """Token ids of each sentence, at most `LONGEST_TOKENS`; never empty."""
    encoded = tokenizer.encode_batch(list(sentences))
    return [e.ids[:LONGEST_TOKENS] or [PADDING] for e in encoded]


def pad_tokens(encoded: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids of different lengths -> (tokens int64 [batch, token], present bool [batch, token])."""
    longest = max(len(ids) for ids in encoded)
    tokens = torch.full((len(encoded), longest), PADDING, dtype=torch.long)
    present = torch.zeros(len(encoded), longest, dtype=torch.bool)
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)] = torch.tensor(list(ids), dtype=torch.long)
        present[row, : len(ids)] = True
    return tokens, present
