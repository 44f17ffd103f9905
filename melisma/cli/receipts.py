"""Receipts as lines for a person."""

from __future__ import annotations


def receipt_lines(row: dict[str, object]) -> list[str]:
    """The parts "receipt" and "original" of a row, indented, where it has them."""
    lines: list[str] = []
    receipt, original = row.get("receipt"), row.get("original")
    if isinstance(receipt, dict):
        from melisma.analysis.receipt import Receipt  # it needs much of scipy

        lines += [f"  {line}" for line in Receipt.of_json(receipt).lines()]
    if isinstance(original, dict):
        words = f"  originality: {original['nearest']}"
        if original["redrawn"]:
            words += f"; sampled again {original['redrawn']} times"
        lines.append(words + ("; still too similar" if original["too_near"] else ""))
    return lines
