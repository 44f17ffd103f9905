"""Has the semantic stage memorised training clips? MusicLM's study (2301.11325, section 4.3).

    python benchmarks/memorisation.py --tokens data/tokens --held data/held_tokens --clips 1500

Both folders hold token shards (`melisma prepare --tokens`): of clips that the stage was trained on,
and of the split *held*, which is the control. From each clip's conditions and its first 0, 2.5, 5
and 10 s the likeliest tokens of the next 5 s are generated. Rows: the share that equals the clip
(exact, first level and both), the share whose histogram of tokens is nearer than that of nearly
every other piece (approximate), the share of equal frames; each as the excess of training clips
over held-out ones. A small stage that always takes the likeliest token soon repeats one note (the
rows give the entropy), so `--temperature 1` measures the same for sampled tokens. With
`--kept FOLDER`, which stores what is generated, an interrupted run continues.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from held_clips import command_line, parser_of, report
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from studies.semantic_memorisation import (
    BATCH,
    CONTINUED_FRAMES,
    PROMPT_SECONDS,
    Likeness,
    TokenClips,
    continue_clips,
    excess,
    likeness_of,
    negative_costs,
    read_token_clips,
    threshold_of,
)
from studies.sinkhorn import centroid_distances

from melisma.engine.sampling import StageSampling
from melisma.evaluate.metrics.figures import Figure, figure_of
from melisma.files.atomic import atomic_write
from melisma.generation.loading import STAGE_FILES, read_stage
from melisma.generation.resolve import model_folder
from melisma.joint import JointEmbedding
from melisma.lm import TokenModel
from melisma.semantic import SemanticTokenizer
from melisma.tokenizers import TokenizerPaths
from melisma.values.errors import MelismaError
from melisma.values.tokens import FRAME_RATE_HZ

PAIRS = 40_000
"""Pairs of different pieces for the threshold; the paper needs 10,000 at least."""
TOP_K = 200
"""Top-k of sampled tokens, as in `melisma generate`."""
LOW_BITS = 2.0
"""Continuations of less entropy are held notes, rests and short loops (chosen: real excerpts of 5 s
have 3.7 bits)."""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--tokens", type=Path, required=True, help="token shards trained on")
    parser.add_argument("--held", type=Path, required=True, help="token shards of the split held")
    parser.add_argument("--clips", type=int, default=1500, help="clips of each, at most")
    parser.add_argument("--seed", type=int, default=0, help="which clips, which pairs")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest tokens")
    parser.add_argument("--batch", type=int, default=BATCH, help="clips of a batch")
    parser.add_argument("--kept", type=Path, help="folder for the continuations")
    arguments = parser.parse_args()
    folder = model_folder(arguments.model)
    paths = TokenizerPaths.of(folder)
    joint, semantic = JointEmbedding.read(paths.joint), SemanticTokenizer.read(paths.semantic)
    present = {"semantic": semantic.fingerprint, "joint": joint.fingerprint}
    stage = f"{STAGE_FILES[0]}.safetensors"
    model = read_stage(folder / stage, present, kind=STAGE_FILES[0]).eval()
    sets = {
        "train": read_token_clips(arguments.tokens, joint, arguments.clips, arguments.seed),
        "held": read_token_clips(arguments.held, joint, arguments.clips, arguments.seed),
    }
    both = set(sets["train"].groups) & set(sets["held"].groups)
    if both:
        raise MelismaError(f"{len(both)} works are in both folders: the control must be held out")
    sampling = StageSampling(temperature=arguments.temperature, top_k=TOP_K)
    continued = continue_all(model, sets, sampling, arguments.batch, arguments.kept)
    distances = centroid_distances(semantic.centroids[0].numpy())
    figures = measure(continued, sets, distances, arguments.seed)
    name = "memorisation" if arguments.temperature == 0 else "memorisation_drawn"
    report(figures, arguments.results / f"{name}.json")


def continue_all(
    model: TokenModel,
    sets: dict[str, TokenClips],
    sampling: StageSampling,
    batch: int,
    kept: Path | None,
) -> dict[tuple[str, float], np.ndarray]:
    """Continuations [clip, level, frame] of both sets after every length of prompt."""
    columns = (
        *Progress.get_default_columns()[:2],
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    runs = [(name, seconds) for seconds in PROMPT_SECONDS for name in sets]
    frames = {seconds: round(seconds * FRAME_RATE_HZ) for seconds in PROMPT_SECONDS}
    continued: dict[tuple[str, float], np.ndarray] = {}
    with Progress(*columns) as progress, torch.inference_mode():
        total = sum(
            len(sets[name]) * (frames[seconds] + CONTINUED_FRAMES) for name, seconds in runs
        )
        task = progress.add_task("sampling", total=total)
        for name, seconds in runs:
            clips, steps = sets[name], frames[seconds] + CONTINUED_FRAMES
            parts = []
            for start in range(0, len(clips), batch):
                some = clips.part(slice(start, start + batch))
                parts.append(_continued(model, some, frames[seconds], sampling, kept))
                progress.advance(task, len(some) * steps)
            continued[name, seconds] = np.concatenate(parts)
    return continued


def _continued(
    model: TokenModel, clips: TokenClips, frames: int, sampling: StageSampling, kept: Path | None
) -> np.ndarray:
    """Continuations after `frames` frames: those stored for the same clips and weights, or new
    ones."""
    if kept is None:
        return continue_clips(model, clips, frames, sampling=sampling, batch=len(clips))
    digest = hashlib.sha256(f"{frames}/{CONTINUED_FRAMES}/{sampling}".encode())
    for array in (clips.semantic, clips.style, clips.attributes, clips.families, clips.rhythm):
        digest.update(np.ascontiguousarray(array).tobytes())
    for tensor in model.state_dict().values():
        digest.update(tensor.float().numpy().tobytes())
    path = kept / f"{digest.hexdigest()[:24]}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    tokens = continue_clips(model, clips, frames, sampling=sampling, batch=len(clips))
    kept.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        np.save(temporary, tokens, allow_pickle=False)
    return tokens


def measure(
    continued: dict[tuple[str, float], np.ndarray],
    sets: dict[str, TokenClips],
    distances: np.ndarray,
    seed: int,
) -> list[Figure]:
    """All rows."""
    costs = []
    for place, seconds in enumerate(PROMPT_SECONDS):
        clips = sets["train"]
        costs.append(
            negative_costs(
                continued["train", seconds][:, 0],
                true_frames(clips, seconds)[:, 0],
                clips.groups,
                distances,
                pairs=PAIRS // len(PROMPT_SECONDS),
                seed=seed + place,
            )
        )
    threshold = threshold_of(np.concatenate(costs))
    figures = []
    for seconds in PROMPT_SECONDS:
        likeness = {
            name: likeness_of(continued[name, seconds], true_frames(clips, seconds), distances)
            for name, clips in sets.items()
        }
        figures += rows(likeness, sets, seconds, threshold)
    return figures


def true_frames(clips: TokenClips, seconds: float) -> np.ndarray:
    """The clips' own tokens after the prompt, [clip, level, frame]."""
    first = round(seconds * FRAME_RATE_HZ)
    return clips.semantic[:, :, first : first + CONTINUED_FRAMES]


def rows(
    likeness: dict[str, Likeness], sets: dict[str, TokenClips], seconds: float, threshold: float
) -> list[Figure]:
    """The rows of one length of the prompt."""
    costs = {name: one.cost for name, one in likeness.items()}
    measured = {
        "approximate copies": {name: cost < threshold for name, cost in costs.items()},
        "exact copies, first level": {n: one.exact_first for n, one in likeness.items()},
        "exact copies, both levels": {n: one.exact_both for n, one in likeness.items()},
        "equal frames": {name: one.equal_share for name, one in likeness.items()},
    }
    figures = []
    for what, values in measured.items():
        interval = excess(
            values["train"], sets["train"].groups, values["held"], sets["held"].groups
        )
        details: dict[str, float | str] = {
            "train": float(values["train"].mean()),
            "held": float(values["held"].mean()),
            "held_clips": len(values["held"]),
        }
        if values["train"].dtype == bool:
            details |= details_of_matches(likeness["train"], values["train"])
        if what == "approximate copies":
            details |= {"threshold": threshold, "cost_median": float(np.median(costs["train"]))}
        figures.append(
            figure_of(
                f"{what} after {seconds:g} s, training clips above held-out ones",
                interval,
                chance=0.0,
                command=command_line(),
                details=details,
            )
        )
    return figures


def details_of_matches(likeness: Likeness, matches: np.ndarray) -> dict[str, float | str]:
    """Entropy of the continuations, of the clips and of the matches."""
    bits = likeness.entropy_bits
    return {
        "matches": float(matches.sum()),
        "matches_below_2_bits": float((bits[matches] < LOW_BITS).sum()),
        "entropy_bits_of_matches": float(bits[matches].mean()) if matches.any() else 0.0,
        "entropy_bits": float(bits.mean()),
        "entropy_bits_of_clips": float(likeness.target_entropy_bits.mean()),
    }


if __name__ == "__main__":
    main()
