"""`melisma evaluate`: metrics of a model or of files, as a card (JSON) and a report (HTML)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterable
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
)
from melisma.cli.progress import progress_bar
from melisma.cli.receipts import print_remarks
from melisma.files.names import replaced_paths
from melisma.generation.requests.abilities import option_names
from melisma.values.errors import MelismaError, unknown_name
from melisma.values.sampling import SamplingParams

if TYPE_CHECKING:
    from melisma.evaluate.report.card import Card
    from melisma.evaluate.report.comparison import ComparedCards

REPORT_NAME, COMPARISON_NAME = "report.html", "comparison.html"


def evaluate(
    ctx: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder of audio or MIDI files; by default outputs of --model are evaluated."
        ),
    ] = None,
    model: options.Model = "default",
    engine: Annotated[
        str, typer.Option(help="Engine of the model: sound or score.", rich_help_panel=options.HOW)
    ] = "sound",
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts: text, .csv (also MusicCaps) or .jsonl; by default built-in ones.",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    subset: Annotated[
        str,
        typer.Option(
            help="Subset of MusicCaps: balanced, eval or all.", rich_help_panel=options.WHAT
        ),
    ] = "balanced",
    reference: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="A folder of real music or a reference file; none: no reference.",
            rich_help_panel=options.WHAT,
        ),
    ] = "default",
    embedding: Annotated[
        list[str] | None,
        typer.Option(
            help="Embedding: music, judge, signal (default: all three) or hub:NAME; repeatable.",
            rich_help_panel=options.ADVANCED,
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(help="Maximum number of pieces to evaluate.", rich_help_panel=options.LENGTH),
    ] = 200,
    open_prompts: Annotated[
        int,
        typer.Option(
            help="Number of open-ended prompts for the section on bias.",
            rich_help_panel=options.LENGTH,
        ),
    ] = 60,
    duration: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Length of the audio that is evaluated of each piece, 1 to 600.",
            rich_help_panel=options.LENGTH,
        ),
    ] = 10.0,
    best_of: Annotated[
        int | None,
        typer.Option(
            help="Candidates per piece; by default that of the model.", rich_help_panel=options.HOW
        ),
    ] = None,
    sampling: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Sampling parameter, e.g. guidance_semantic=2.5; can be repeated.",
            rich_help_panel=options.HOW,
        ),
    ] = None,
    precision: options.Precision = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Random seed; the same seed gives the same card.", rich_help_panel=options.HOW
        ),
    ] = 0,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="CARD CARD",
            help="Only compare two cards (files or folders of evaluations), piece by piece.",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="CARD",
            help="Only write the report of an existing card.",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder to write, created if missing; the default counts up where it is in "
            "use.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = Path("evaluation"),
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a model or a folder of audio or MIDI files, or compare two evaluations."""
    check_integer("--count", count, 1, MOST_PIECES)
    check_integer("--open-prompts", open_prompts, 0, MOST_PIECES)
    check_numbers(seed=seed, best_of=best_of, threads=threads)
    check_real("--duration", duration, 1.0, 600.0)
    check_read(given_options(ctx), folder=folder, compare=compare, page=page, engine=engine)
    if "output" not in given_options(ctx) and page is None:
        output = unused_folder(output)
    check_folder(output)
    if compare is not None:
        write_compared(compare, reference, output, quiet=quiet)
        return
    if page is not None:
        rewrite_report(page, output, quiet=quiet)
        return
    chosen = named_model(model)
    check_precision(precision)
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
        seconds=duration,
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
        print(written)
    remarks = [note for note in card.notes if note not in request.problems]
    print_remarks(remarks, quiet=quiet)
    if request.problems:
        problems = "; ".join(dict.fromkeys(one.rstrip(".") for one in request.problems))
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


_FILES = "what is evaluated are the files of a folder"
_AUDIO, _SCORES = "what is evaluated is audio of a model", "what is evaluated are scores of a model"
_MODELS, _ALL = (_AUDIO, _SCORES), (_FILES, _AUDIO, _SCORES)
_COMPARED, _SHOWN = "--compare only compares cards", "--page only writes a report"
READ_BY = {
    "folder": (_FILES,),
    "engine": _MODELS,
    "prompts": _ALL,
    "subset": _MODELS,
    "reference": (*_ALL, _COMPARED),
    "model": _ALL,
    "embedding": _ALL,
    "count": _ALL,
    "open_prompts": (_AUDIO,),
    "duration": (_FILES, _AUDIO),
    "best_of": _MODELS,
    "sampling": _MODELS,
    "precision": _MODELS,
    "seed": _ALL,
    "threads": _ALL,
    "compare": (_COMPARED,),
    "page": (_SHOWN,),
}
"""Option -> what reads it; `--output` and `--quiet` are read always."""


def given_options(ctx: typer.Context) -> list[str]:
    """Names of the parameters that stand on the command line, not at their defaults."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return [name for name, one in sources.items() if one is not None and one.name == "COMMANDLINE"]


def check_read(
    given: Iterable[str],
    *,
    folder: Path | None,
    compare: tuple[Path, Path] | None,
    page: Path | None,
    engine: str,
) -> None:
    """Raises `MelismaError` for an option that would not be read."""
    given = list(given)
    if engine not in _SETTINGS:
        raise MelismaError(unknown_name("engine", engine, list(_SETTINGS)))
    doing = _AUDIO if engine == "sound" else _SCORES
    doing = _FILES if folder is not None else doing
    doing = _SHOWN if page is not None else doing
    doing = _COMPARED if compare is not None else doing
    if unread := [name for name in given if doing not in READ_BY.get(name, (doing,))]:
        names = option_names(unread).replace("--folder", "FOLDER")
        raise MelismaError(f"{doing}: leave out {names}")
    if "subset" in given and "prompts" not in given:
        raise MelismaError("--subset chooses among the prompts of MusicCaps: add --prompts FILE")


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
        check_real(f"--sampling {name}", found[name], 0.0, 65_536.0)
    return found


def check_folder(output: Path) -> None:
    """Raises `MelismaError` where the name is that of a file."""
    if output.exists() and not output.is_dir():
        raise MelismaError(f"{output} is a file: give the name of a folder")


def unused_folder(output: Path) -> Path:
    """The default folder, or the first of `name-2`, `name-3`, ... where something is in it."""
    found, number = output, 1
    while found.is_dir() and any(found.iterdir()):
        number += 1
        found = output.with_name(f"{output.name}-{number}")
    return found


def path_line(path: Path, replaced: Collection[str]) -> str:
    """The line that is printed about a file."""
    return f"{path}  (replaced)" if str(path) in replaced else str(path)


def write_results(card: Card, output: Path) -> str:
    """Writes the card and its report and returns a line about each."""
    from melisma.evaluate.report.card import CARD_NAME, write_card
    from melisma.evaluate.report.html import write_report

    paths = output / CARD_NAME, output / REPORT_NAME
    replaced = replaced_paths(*paths)
    write_card(paths[0], card)
    write_report(paths[1], card)
    return "\n".join(path_line(path, replaced) for path in paths)


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
    replaced = replaced_paths(page_path)
    write_report(page_path, card)
    if not quiet:
        print(path_line(page_path, replaced))


def write_compared(cards: tuple[Path, Path], reference: str, output: Path, *, quiet: bool) -> None:
    """Writes the comparison of two cards as a page and prints it."""
    from melisma.evaluate.report.card import read_card
    from melisma.evaluate.report.comparison import compare_cards
    from melisma.evaluate.report.html import write_comparison
    from melisma.evaluate.run import known_reference

    first, second = (read_card(path) for path in cards)
    found = compare_cards(first, second, known_reference(reference, first))
    output.mkdir(parents=True, exist_ok=True)
    page_path = output / COMPARISON_NAME
    replaced = replaced_paths(page_path)
    write_comparison(page_path, first, second, found)
    if not quiet:
        print(comparison_lines(found))
        print(path_line(page_path, replaced))


def comparison_lines(found: ComparedCards) -> str:
    """The compared metrics, one line each."""
    lines = [
        f"{one.verdict:>13}  {one.what}: {one.before:.4g} -> {one.after:.4g}, "
        f"change {one.change.value:+.4g} ({one.change.low:+.4g} to {one.change.high:+.4g})"
        for one in found.differences
    ]
    return "\n".join([*lines, *found.notes, f"{found.pairs} pieces in both"])
