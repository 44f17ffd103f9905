"""What a command prints about its pieces: a JSON document, or lines for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence

import melisma


def print_json(document: Mapping[str, object]) -> None:
    """Prints a JSON document on standard output, escaped where its encoding lacks letters."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    print(text)


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
        print_json({"version": melisma.__version__, "pieces": rows})
    elif not quiet:
        for row in rows:
            print(describe(row))


def print_remarks(remarks: Sequence[str], *, quiet: bool) -> None:
    """Prints remarks on what was given on standard error, one a line; nothing if `quiet`."""
    for remark in () if quiet else remarks:
        print(f"melisma: note: {remark}", file=sys.stderr)


def replaced_words(row: Mapping[str, object], path: object = None) -> list[str]:
    """["replaced"] where the file of a receipt took the place of another one, else nothing.

    Args:
        row: The receipt.
        path: The file, that of the receipt by default.
    """
    replaced = row.get("replaced")
    assert replaced is None or isinstance(replaced, list)
    return ["replaced"] if str(path or row["path"]) in (replaced or []) else []


def understanding_lines(row: Mapping[str, object]) -> list[str]:
    """Indented lines: what of the prompt was understood, what was not, what was taken from a given
    piece, if there is one, and what was chosen freely."""
    understood, missed, chosen = (
        row.get(name) for name in ("understood", "not_understood", "chosen_freely")
    )
    if not (isinstance(understood, dict) and isinstance(chosen, dict) and isinstance(missed, list)):
        return []
    from melisma.generation.conditioning.understanding import NotUnderstood

    parts = {
        "understood": named_values(understood),
        "not understood": [NotUnderstood(**one).line() for one in missed],
    }
    taken = row.get("from_given_piece")
    if isinstance(taken, dict) and taken:
        parts["taken from the given piece"] = named_values(taken)
    parts["chosen freely"] = named_values(chosen)
    return [f"  {name}: {', '.join(part) or 'nothing'}" for name, part in parts.items()]


def named_values(values: Mapping[str, object]) -> list[str]:
    """["key D minor", ...] from {"tonality": "D minor", ...}."""
    return [f"{'key' if k == 'tonality' else k} {v}" for k, v in values.items()]


def other_conditions(row: Mapping[str, object]) -> list[str]:
    """What a piece was conditioned on besides its prompt: a melody, a recording, remarks."""
    conditions = row.get("conditions")
    assert isinstance(conditions, dict)
    said = {"instruments", "without"}
    for name in ("understood", "from_given_piece", "chosen_freely"):
        part = row.get(name)
        said |= set(part) if isinstance(part, dict) else set()
    said = said if "understood" in row else set()
    return named_values({name: one for name, one in conditions.items() if name not in said})


def similarity_words(row: Mapping[str, object]) -> str:
    """The similarity of words and sound, and whether it is good, e.g. "similarity 0.41 (good)"."""
    value, scales = row["similarity"], row.get("scales")
    assert isinstance(value, int | float)
    if not isinstance(scales, dict):
        return f"similarity {value:.2f}"
    good_from = scales["similarity"]["good_from"]
    return f"similarity {value:.2f} ({'good' if value >= good_from else 'weak'})"


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
