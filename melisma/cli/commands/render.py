"""`melisma render`: from a MIDI file to an audio file, with stems on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import melisma
from melisma.cli import options
from melisma.cli.arguments import input_file
from melisma.cli.output_paths import (
    audio_paths,
    chooses_names,
    in_folder,
    plot_paths,
    saved_at,
    stem_paths,
)
from melisma.cli.places import Targets, check_places
from melisma.cli.progress import progress_bar
from melisma.cli.receipts import print_json, replaced_words
from melisma.values.errors import MelismaError, unknown_name


def render(
    file: Annotated[Path, typer.Argument(help="A Standard MIDI file (.mid).")],
    output: options.Output = None,
    form: options.Format = None,
    soundfont: options.Soundfont = None,
    room: options.Room = None,
    stems: options.Stems = None,
    plot: options.Plot = None,
    no_clobber: options.NoClobber = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render a MIDI file to audio."""
    from melisma.sound.reverberation import ROOMS

    room = room or options.DEFAULT_ROOM
    if room not in ROOMS:
        raise MelismaError(unknown_name("room", room, list(ROOMS)))
    from melisma.files.provenance import provenance_from_fields
    from melisma.generation.requests.render import RenderRequest, run_render
    from melisma.symbolic.midi import midi_bytes, read_midi
    from melisma.symbolic.tags import read_midi_tags

    file = input_file(file)
    data = midi_bytes(file)
    path = mix_path(file, output, form)
    plots = plot_paths(plot, 1, [path])
    check_places(
        {"--output": [path], "--plot": plots},
        folders={"--stems": stem_paths(stems, [path])},
        sources={"the score": file, "--soundfont": soundfont},
        no_clobber=no_clobber,
        as_json=as_json,
    )
    targets = Targets(
        paths=[path], plots=plots, form=form, counts_up=no_clobber or chooses_names(output)
    )
    # The audio inherits the provenance of its score.
    tags = read_midi_tags(data)
    request = RenderRequest(
        score=read_midi(data),
        provenance=None if tags is None else provenance_from_fields(tags),
        title=file.stem,
        path=path,
        plot=plots[0],
        stems=stems,
        soundfont=soundfont,
        room=room,
        ending=targets.ending,
        replace=not targets.counts_up,
    )
    with progress_bar("rendering", quiet=quiet) as progress, targets.made_folders():
        receipt = saved_at(
            path, lambda one: run_render(replace(request, path=one), progress), targets.counts_up
        )
    if as_json:
        print_json({"version": melisma.__version__} | receipt)
    elif not quiet and not targets.are_output:
        print_receipt(receipt)


def mix_path(file: Path, output: str | None, form: str | None) -> Path:
    """Path of the mix: the given file, or the score's name in the given or the current folder."""
    if not chooses_names(output):
        return audio_paths(output, form, [file.stem], 0)[0]
    ending = (form or "wav").lower().removeprefix(".")
    (path,) = in_folder(output or "", [f"{file.stem}.{ending}"])
    audio_paths(str(path), form, [file.stem], 0)  # checks the format
    return path


def print_receipt(receipt: dict[str, object]) -> None:
    """Prints a line about the mix, one about the stems, and one for each remark."""
    stems, remarks = receipt["stems"], receipt["remarks"]
    assert isinstance(stems, list)
    assert isinstance(remarks, list)
    facts = [f"{receipt['seconds']:g} s", f"{receipt['parts']} parts"]
    if receipt["loudness_lufs"] is not None:
        facts.append(f"{receipt['loudness_lufs']:.1f} LUFS")
    facts += [str(receipt["engine"]), Path(str(receipt["soundfont"])).name]
    facts += replaced_words(receipt)
    print(f"{receipt['path']}  ({', '.join(facts)})")
    if stems:
        facts = [f"{len(stems) // 2} stems, as audio and as MIDI"]
        facts += replaced_words(receipt, stems[0])
        print(f"{Path(stems[0]).parent}  ({', '.join(facts)})")
    for remark in remarks:
        print(f"note: {remark}")
