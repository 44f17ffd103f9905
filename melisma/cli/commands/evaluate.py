"""`melisma evaluate`: how good music is, as a card for machines and a page for people."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli import options
from melisma.cli.arguments import (
    LARGEST_SEED,
    MOST_CANDIDATES,
    MOST_PIECES,
    check_precision,
    named_model,
    real,
    whole,
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
        typer.Argument(help="A folder of sound or of MIDI; the model's own outputs if missing."),
    ] = None,
    model: options.Model = "default",
    engine: Annotated[str, typer.Option(help="Of the model: sound or score.")] = "sound",
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A list of prompts: text, .csv (MusicCaps, too) or .jsonl; Melisma's if missing.",
        ),
    ] = None,
    subset: Annotated[str, typer.Option(help="Of MusicCaps: balanced, eval or all.")] = "balanced",
    reference: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="A folder of real sound, or a reference file; none for none."
        ),
    ] = "default",
    embedding: Annotated[
        list[str] | None,
        typer.Option(help="music, judge, signal or hub:NAME; repeat for more. The first three."),
    ] = None,
    count: Annotated[int, typer.Option(help="Pieces to judge, at most.")] = 200,
    open_prompts: Annotated[int, typer.Option(help="Open prompts for the section on bias.")] = 60,
    seconds: Annotated[float, typer.Option(help="So much of every sound is judged.")] = 10.0,
    best_of: Annotated[
        int | None, typer.Option(help="Candidates a piece; the model's default if missing.")
    ] = None,
    drawing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="How the model is sampled, e.g. guidance_semantic=2.5; repeat for more.",
        ),
    ] = None,
    precision: options.Precision = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same card.")] = 0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="CARD CARD",
            help="Only compare two cards (files, or folders of evaluations), piece by piece.",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="CARD", help="Only write the page of a card that is there already."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write; it is made if missing.")
    ] = Path("evaluation"),
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Judge a model, or a folder of sound or MIDI; or compare two cards."""
    whole("--count", count, 1, MOST_PIECES)
    whole("--open-prompts", open_prompts, 0, MOST_PIECES)
    whole("--best-of", best_of, 1, MOST_CANDIDATES)
    whole("--seed", seed, 0, LARGEST_SEED - MOST_PIECES)
    whole("--threads", threads, 1, 1024)
    real("--seconds", seconds, 1.0, 600.0)
    check_folder(output)
    if compare is not None:
        _compare(compare, reference, output, quiet=quiet)
        return
    if page is not None:
        _write_page(page, output, quiet=quiet)
        return
    chosen = named_model(model)
    check_precision(precision)
    if engine not in ("sound", "score"):
        raise MelismaError(f'no engine "{engine}": known are sound and score')
    named = None if reference in ("default", "none") else Path(reference)
    for path in (folder, prompts, named):
        if path is not None and not path.exists():
            raise MelismaError(f"there is no {path}: check the name")
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
        sampling=SamplingParams.of(read_sampling(drawing or [], engine)),
        precision=precision,
        seed=seed,
        threads=threads,
        output=output,
        command=shlex.join(["melisma", *sys.argv[1:]]),
    )
    with progress_bar("judging", quiet=quiet) as progress:
        card = run_evaluation(request, progress)
    written = _write(card, output)
    if not quiet:
        print(summary(card))
        print(*written, sep="\n")
    if request.problems:
        remarks = " ".join(dict.fromkeys(request.problems))
        raise MelismaError(f"the rest was judged and written to {output}, but: {remarks}")


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
"""Sampling parameters, by engine (of sound, those of three stages and of one; the model says which
are its own); a test holds them against the pipelines."""


def read_sampling(words: list[str], engine: str) -> dict[str, float | int]:
    """Sampling parameters from words like "guidance_semantic=2.5"."""
    found: dict[str, float | int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in _SETTINGS[engine]:
            known = ", ".join(_SETTINGS[engine])
            raise MelismaError(f'no sampling parameter "{name}" of {engine}: known are {known}')
        try:
            found[name] = int(value) if name.startswith("top_k") else float(value)
        except ValueError as error:
            raise MelismaError(f'"{word}" is no setting: write one like {name}=2') from error
        real(f"--drawing {name}", found[name], 0.0, 65_536.0)
    return found


def check_folder(output: Path) -> None:
    """Raise unless the folder can be made."""
    if output.exists() and not output.is_dir():
        raise MelismaError(f"{output} is a file: give the name of a folder")
    if not output.exists() and not output.absolute().parent.is_dir():
        raise MelismaError(
            f"the folder {output.parent} does not exist: create it, or choose another"
        )


def _write(card: Card, output: Path) -> tuple[Path, Path]:
    """Writes the card and its report, and says where."""
    from melisma.evaluate.report.card import CARD_NAME, write_card
    from melisma.evaluate.report.html import write_report

    write_card(output / CARD_NAME, card)
    write_report(output / REPORT_NAME, card)
    return output / CARD_NAME, output / REPORT_NAME


def summary(card: Card) -> str:
    """The figures, one line each, under the titles of their sections."""
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


def _write_page(path: Path, output: Path, *, quiet: bool) -> None:
    from melisma.evaluate.report.card import read_card
    from melisma.evaluate.report.html import write_report

    card = read_card(path)
    page_path = output / REPORT_NAME
    write_report(page_path, card)
    if not quiet:
        print(page_path)


def _compare(cards: tuple[Path, Path], reference: str, output: Path, *, quiet: bool) -> None:
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
        print(_lines(found))
        print(page_path)


def _lines(found: ComparedCards) -> str:
    """One line a figure."""
    lines = [
        f"{one.verdict:>13}  {one.what}: {one.before:.4g} -> {one.after:.4g}, "
        f"change {one.change.value:+.4g} ({one.change.low:+.4g} to {one.change.high:+.4g})"
        for one in found.differences
    ]
    return "\n".join([*lines, *found.notes, f"{found.pairs} pieces in both"])
