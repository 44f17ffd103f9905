"""Train the judges: other pieces (split "judge") and other soundfonts than the generator's.

Run: `python benchmarks/train_judges.py --music FOLDER --soundfonts A.sf3 B.sf3 --clips CLIPS
--judges JUDGES`. Renders `--hours` of clips once (kept in CLIPS), hears them, and trains in about
five minutes on one core. The weights are not shipped: this command makes them anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from melisma.corpus.clips import ClipMaker, ClipSettings
from melisma.corpus.ears import read_ears, write_ears
from melisma.corpus.sources import read_sources
from melisma.train.judge import JudgeTraining, hear_lessons, train_judge

SOUNDFONTS = (
    Path("/usr/share/sounds/sf3/MuseScore_General.sf3"),
    Path("/usr/share/sounds/sf3/FluidR3Mono_GM.sf3"),
)


def main() -> None:
    """Render, hear, train, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--music", type=Path, required=True, help="folder of symbolic corpora")
    parser.add_argument("--soundfonts", type=Path, nargs="+", default=list(SOUNDFONTS))
    parser.add_argument("--clips", type=Path, required=True, help="folder for the rendered clips")
    parser.add_argument("--judges", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--updates", type=int, default=JudgeTraining().updates)
    parser.add_argument("--seed", type=int, default=23)
    given = parser.parse_args()
    maker = ClipMaker(
        read_sources(given.music),
        given.soundfonts,
        ClipSettings(seed=given.seed, split="judge", captions=3),
    )
    write_ears(given.clips, maker, given.hours, clips_per_shard=100)
    lessons = hear_lessons(
        read_ears(given.clips), lambda done, of: print(f"heard {done} of {of} clips")
    )
    judge = train_judge(lessons, training=JudgeTraining(updates=given.updates), tell=print)
    judge.write(given.judges, {"clips": len(lessons), "updates": given.updates})


if __name__ == "__main__":
    main()
