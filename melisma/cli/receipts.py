"""What a command prints about its pieces: a JSON document, or lines for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import melisma


def print_pieces(
    rows: Sequence[dict[str, object]],
    describe: Callable[[dict[str, object]], str],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Prints the receipts of all pieces as one JSON document, or a description of each.

    Args:
        rows: A receipt per piece, as `save` of a result returns it.
        describe: Makes the description of a piece from its receipt.
        as_json: Whether the JSON document is printed, even if `quiet`.
        quiet: Whether the descriptions are left out.
    """
    if as_json:
        document = {"version": melisma.__version__, "pieces": rows}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif not quiet:
        for row in rows:
            print(describe(row))


def receipt_lines(row: dict[str, object]) -> list[str]:
    """Indented lines about the parts "receipt" and "original" of a piece, if it has them."""
    lines: list[str] = []
    receipt, original = row.get("receipt"), row.get("original")
    if isinstance(receipt, dict):
        from melisma.analysis.receipt import Receipt  # it needs much of scipy

        lines += [f"  {line}" for line in Receipt.of_json(receipt).lines()]
    if isinstance(original, dict):
        words = f"  originality: {original['nearest']}"
        if original["resampled"]:
            words += f"; sampled again {original['resampled']} times"
        lines.append(words + ("; still too similar" if original["too_similar"] else ""))
    return lines
