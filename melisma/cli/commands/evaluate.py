"""`melisma evaluate`: metrics of a model or of files, as a card (JSON) and a report (HTML)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import (
    MOST_PIECES,
    check_integer,
    check_numbers,
    check_precision,
    check_real,
    named_model,
    unknown_name,
)
from melisma.cli.progress import progress_bar
from melisma.values.errors import MelismaError
from melisma.values.sampling import SamplingParams

if TYPE_CHECKING:
    from melisma.evaluate.report.card import Card
    from melisma.evaluate.report.comparison import ComparedCards

REPORT_NAME = "report.html"


def evaluate(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of audio or MIDI files; by default outputs of --model are evaluated."
        ),
    ] = None,
    model: options.Model = "default",
    engine: Annotated[str, typer.Option(help="Engine of the model: sound or score.")] = "sound",
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts: text, .csv (also MusicCaps) or .jsonl; by default built-in ones.",
        ),
    ] = None,
    subset: Annotated[
        str, typer.Option(help="Subset of MusicCaps: balanced, eval or all.")
    ] = "balanced",
    reference: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="A folder of real music or a reference file; none: no reference."
        ),
    ] = "default",
    embedding: Annotated[
        list[str] | None,
        typer.Option(
            help="Embedding: music, judge, signal (default: all three) or hub:NAME; repeatable."
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Maximum number of pieces to evaluate.")] = 200,
    open_prompts: Annotated[
        int, typer.Option(help="Number of open-ended prompts for the section on bias.")
    ] = 60,
    seconds: Annotated[float, typer.Option(help="Length of audio evaluated per piece.")] = 10.0,
    best_of: Annotated[
        int | None, typer.Option(help="Candidates per piece; by default that of the model.")
    ] = None,
    sampling: Annotated[
        list[str] | None,
        typer.Option(
            "--drawing",
            metavar="KEY=VALUE",
            help="Sampling parameter, e.g. guidance_semantic=2.5; can be repeated.",
        ),
    ] = None,
    precision: options.Precision = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same card.")] = 0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="CARD CARD",
            help="Only compare two cards (files or folders of evaluations), piece by piece.",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="CARD", help="Only write the report of an existing card."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write; created if missing.")
    ] = Path("evaluation"),
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a model or a folder of audio or MIDI files, or compare two evaluations."""
    check_integer("--count", count, 1, MOST_PIECES)
    check_integer("--open-prompts", open_prompts, 0, MOST_PIECES)
    check_numbers(seed=seed, best_of=best_of, threads=threads)
    check_real("--seconds", seconds, 1.0, 600.0)
    check_folder(output)
    if compare is not None:
        write_compared(compare, reference, output, quiet=quiet)
        return
    if page is not None:
        rewrite_report(page, output, quiet=quiet)
        return
    chosen = named_model(model)
    check_precision(precision)
    if engine not in _SETTINGS:
        raise MelismaError(unknown_name("engine", engine, list(_SETTINGS)))
    reference_path = None if reference in ("default", "none") else Path(reference)
    for path in (folder, prompts, reference_path):
        if path is not None and not path.exists():
            raise MelismaError(f"{path} does not exist: check the name")
    from melisma.evaluate.run import EvaluationRequest, run_evaluation

    request = EvaluationRequest(
        folder=folder,
        model=chosen,
        engine=engine,
        prompts=prompts,
        subset=subset,
        reference=reference,
        embeddings=tuple(embedding or ()),
        count=count,
        opened=open_prompts,
        seconds=seconds,
        best_of=best_of,
        sampling=SamplingParams.of(read_sampling(sampling or [], engine)),
        precision=precision,
        seed=seed,
        threads=threads,
        output=output,
        command=shlex.join(["melisma", *sys.argv[1:]]),
    )
    with progress_bar("evaluating", quiet=quiet) as progress:
        card = run_evaluation(request, progress)
    written = write_results(card, output)
    if not quiet:
        print(summary(card))
        print(*written, sep="\n")
    if request.problems:
        problems = " ".join(dict.fromkeys(request.problems))
        raise MelismaError(f"evaluated and written to {output}, but incomplete: {problems}")


_SETTINGS = {
    "sound": (
        "guidance_semantic",
        "temperature_semantic",
        "top_k_semantic",
        "guidance_coarse",
        "temperature_coarse",
        "top_k_coarse",
        "temperature_fine",
        "guidance",
        "temperature",
        "top_k",
        "top_p",
    ),
    "score": ("temperature", "top_k", "top_p", "guidance"),
}
"""Engine -> its sampling parameters: for sound those of three-stage and of single-stage models,
of which each model takes its own. A test compares them with the pipelines."""


def read_sampling(words: list[str], engine: str) -> dict[str, float | int]:
    """Parses sampling parameters.

    Args:
        words: Parameters like "guidance_semantic=2.5".
        engine: "sound" or "score".

    Raises:
        MelismaError: A parameter is unknown, or its value is not a valid number.
    """
    found: dict[str, float | int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in _SETTINGS[engine]:
            raise MelismaError(unknown_name("sampling parameter", name, _SETTINGS[engine]))
        try:
            found[name] = int(value) if name.startswith("top_k") else float(value)
        except ValueError as error:
            raise MelismaError(f'"{word}" is not a setting: use the form {name}=2') from error
        check_real(f"--drawing {name}", found[name], 0.0, 65_536.0)
    return found


def check_folder(output: Path) -> None:
    """Raises `MelismaError` unless the folder exists or can be created."""
    if output.exists() and not output.is_dir():
        raise MelismaError(f"{output} is a file: give the name of a folder")
    if not output.exists() and not output.absolute().parent.is_dir():
        raise MelismaError(
            f"the folder {output.parent} does not exist: create it, or choose another"
        )


def write_results(card: Card, output: Path) -> tuple[Path, Path]:
    """Writes the card and its report and returns their paths."""
    from melisma.evaluate.report.card import CARD_NAME, write_card
    from melisma.evaluate.report.html import write_report

    write_card(output / CARD_NAME, card)
    write_report(output / REPORT_NAME, card)
    return output / CARD_NAME, output / REPORT_NAME


def summary(card: Card) -> str:
    """The metrics of a card, one line each, under the titles of their sections."""
    from melisma.evaluate.metrics.figures import format_number
    from melisma.evaluate.report.card import SECTIONS

    lines = []
    for name, title in SECTIONS.items():
        rows = card.section(name)
        lines += [title] if rows else []
        for row in rows:
            one = row.figure
            words = format_number(one.value, one.unit)
            if one.low is not None and one.high is not None:
                words += f" ({format_number(one.low)} to {format_number(one.high)})"
            for word, number in (("chance", one.chance), ("real music", one.ceiling)):
                words += "" if number is None else f", {word} {format_number(number)}"
            lines.append(f"  {one.what}: {words}")
    return "\n".join(lines)


def rewrite_report(path: Path, output: Path, *, quiet: bool) -> None:
    """Writes the report of an existing card."""
    from melisma.evaluate.report.card import read_card
    from melisma.evaluate.report.html import write_report

    card = read_card(path)
    page_path = output / REPORT_NAME
    write_report(page_path, card)
    if not quiet:
        print(page_path)


def write_compared(cards: tuple[Path, Path], reference: str, output: Path, *, quiet: bool) -> None:
    """Writes the comparison of two cards as a page and prints it."""
    from melisma.evaluate.report.card import read_card
    from melisma.evaluate.report.comparison import compare_cards
    from melisma.evaluate.report.html import write_comparison
    from melisma.evaluate.run import known_reference

    first, second = (read_card(path) for path in cards)
    found = compare_cards(first, second, known_reference(reference, first))
    output.mkdir(exist_ok=True)
    page_path = output / "comparison.html"
    write_comparison(page_path, first, second, found)
    if not quiet:
        print(comparison_lines(found))
        print(page_path)


def comparison_lines(found: ComparedCards) -> str:
    """The compared metrics, one line each."""
    lines = [
        f"{one.verdict:>13}  {one.what}: {one.before:.4g} -> {one.after:.4g}, "
        f"change {one.change.value:+.4g} ({one.change.low:+.4g} to {one.change.high:+.4g})"
        for one in found.differences
    ]
    return "\n".join([*lines, *found.notes, f"{found.pairs} pieces in both"])
