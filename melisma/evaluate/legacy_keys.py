"""Keys in files on disk whose words are older than the names in the code.

Cards, reference sets and classifiers that were written by earlier versions must stay readable, and
their digests and fingerprints must not change; so these keys are what they were in the first
version, and code refers to them by the constants of this file.
"""

from __future__ import annotations

TEXTS_KEY = "told"
"""Of `PieceRow.texts` in cards before 0.6, and of `Measured.texts` in a reference set."""
SENTENCE_KEY = "told"
"""Of the finding in words among the details of a row on bias, in cards before 0.6."""
REQUESTED_KEY = "wish"
"""Of the `RequestedScoreAttributes` in a reference of scores."""
MEASURED_KEY = "heard"
"""Of the `MeasuredScoreAttributes` in a reference of scores."""
TRADITION_KEY = "maker"
"""Of the requested tradition in a reference of scores and a list of prompts, and of its row in a
card."""
NEAR_TRADITION_KEY = "maker_near"
"""Of the row that counts a tradition among the likeliest, in a card."""
TRADITIONS_KEY = "makers"
"""Of probabilities of traditions in a reference of scores; also the kind of a classifier's
checkpoint, and the key of its classes."""
STRUCTURE_KEYS = {"near_duplicate_share": "twin_share"}
"""Fields of `ScoreStructure` by another name: in a reference of scores, and keys of rows in a
card."""
