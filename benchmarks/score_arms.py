"""Representations of scores at equal compute: tokenisation, positions and trunk.

One arm is trained for a stated processor time (one thread, process time, so that other programs on
the machine matter little) and judged by the loss per note (nats) on the same held-out windows,
whatever its tokens:

    python benchmarks/score_arms.py --arm events --seed 1 --minutes 20 \
        --scores FOLDER --results benchmarks/results

`FOLDER/train` and `FOLDER/held` are what `melisma train score` writes under its own folder in the
run's. Every arm is trained in all keys, but for `home`. Arms: `events` (one step per event, rotary
positions on two clocks), `index` (rotary on the position only), `relative` (learned bias by
distance, Raffel et al., 1910.10683, section 2.1), `no-chords` (without chord events), `home` (every
window transposed to C), `remi` (one step per token: MidiTok's REMI with programs, Huang and Yang,
2002.00212; von Rütte et al., 2201.10936), `lstm` (the events, an LSTM in place of the trunk), and
`markov` (interpolated counts of the fields, given the previous event; no training).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_compute import train_for
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.generation.resolve import model_folder
from melisma.joint import JointEmbedding
from melisma.lm.score.conditioning import ScoreConditioner, ScoreConditions, drop_conditioning
from melisma.lm.score.model import EventBatch, ScoreModel, ScoreModelSettings
from melisma.nn.transformer import Trunk
from melisma.train.datasets.score import ScoreCorpus, read_score_corpus
from melisma.train.loop import LoopSettings, Task
from melisma.train.score import ScoreObjective, ScoreTraining, conditions_of, example_of
from melisma.values.events import CHORD, FIELD_SIZES, FIRST_TEMPO, LENGTH, PART_FIELD, POSITION

HELD_WINDOWS = 192
"""Held-out windows that every arm is judged on."""
BUCKETS, FARTHEST = 32, 512
"""Number of buckets of the relative bias, and its largest distance."""


class IndexModel(ScoreModel):
    """Both clocks are the position in the sequence."""

    def angles(self, index: Tensor, ticks: Tensor) -> tuple[Tensor, Tensor]:
        """Ignores the ticks."""
        return super().angles(index, index.expand_as(ticks) * 6)


class RelativeModel(ScoreModel):
    """No rotation: a learned bias for each head and distance."""

    def __init__(self, settings: ScoreModelSettings) -> None:
        super().__init__(settings)
        self.bias = nn.Embedding(BUCKETS, settings.heads)
        nn.init.zeros_(self.bias.weight)

    def forward(
        self, batch: EventBatch, conditions: ScoreConditions, dropout: float = 0.0
    ) -> Tensor:
        """As in the model, apart from positions."""
        hidden = self.embed(batch)
        count = torch.arange(hidden.shape[1])
        back = count[:, None] - count[None]
        exact = BUCKETS // 2
        far = exact + (back.clamp(min=1) / exact).log() / math.log(FARTHEST / exact) * exact
        bucket = torch.where(back < exact, back.clamp(min=0), far.long().clamp(max=BUCKETS - 1))
        bias = self.bias(bucket).permute(2, 0, 1)[None]
        mask = bias.masked_fill((back < 0)[None, None], -torch.inf).to(torch.bfloat16)
        zero = torch.zeros(1, hidden.shape[1])
        still = (torch.ones_like(zero)[..., None], zero[..., None])
        conditioning = self.conditioner(conditions)
        return self.trunk(hidden, conditioning, mask=mask, dropout=dropout, angles=still)[0]


class LstmModel(ScoreModel):
    """Two layers of LSTM in place of the trunk, of a width that makes the models equal in size."""

    def __init__(self, settings: ScoreModelSettings, width: int) -> None:
        super().__init__(settings)
        self.trunk = nn.Identity()  # type: ignore[assignment]
        self.lstm = nn.LSTM(settings.width, width, num_layers=2, batch_first=True)
        self.leave = nn.Linear(width, settings.width)

    def forward(
        self, batch: EventBatch, conditions: ScoreConditions, dropout: float = 0.0
    ) -> Tensor:
        """The conditions are added to every event."""
        hidden = self.embed(batch) + self.conditioner(conditions)
        return self.leave(F.dropout(self.lstm(hidden)[0], dropout, self.training))


class ArmTask(ScoreObjective):
    """The task with another model, and perhaps without chords."""

    def __init__(
        self, settings: ScoreTraining, train: ScoreCorpus, held: ScoreCorpus, model: nn.Module
    ) -> None:
        super().__init__(settings, train, held)
        self.model = model


def event_model(arm: str, settings: ScoreModelSettings, seed: int) -> nn.Module:
    """The model of an arm that reads events."""
    torch.manual_seed(seed)
    if arm == "index":
        return IndexModel(settings)
    if arm == "relative":
        return RelativeModel(settings)
    if arm == "lstm":
        return LstmModel(settings, 400)
    return ScoreModel(settings)


def without_chords(corpus: ScoreCorpus) -> ScoreCorpus:
    """The corpus without chord events."""
    kept = corpus.events[:, PART_FIELD] != CHORD
    place = np.concatenate([[0], np.cumsum(kept)])
    return dataclasses.replace(corpus, events=corpus.events[kept], spans=place[corpus.spans])


def held_windows(corpus: ScoreCorpus) -> np.ndarray:
    """The held-out windows of all arms."""
    rng = np.random.default_rng(7)
    return rng.choice(len(corpus), HELD_WINDOWS, replace=False, p=corpus.weight)


def notes_in(corpus: ScoreCorpus, windows: np.ndarray) -> int:
    """Notes of windows."""
    lengths = [corpus.events[slice(*corpus.spans[w]), LENGTH] for w in windows]
    return int(sum((one < FIRST_TEMPO).sum() for one in lengths))


# --- REMI ----------------------------------------------------------------------------------------


def remi_tokenizer() -> Any:
    """MidiTok's REMI with the grid of the events."""
    from miditok import REMI, TokenizerConfig  # pyright: ignore[reportMissingImports]

    return REMI(
        TokenizerConfig(
            pitch_range=(0, 127),
            beat_res={(0, 2): 24, (2, 4): 6, (4, 8): 2, (8, 32): 1},
            num_velocities=32,
            use_programs=True,
            one_token_stream_for_programs=True,
            use_tempos=True,
            num_tempos=120,
            tempo_range=(20, 320),
            log_tempos=True,
            use_time_signatures=True,
            time_signature_range={
                2: list(range(1, 5)),
                4: list(range(1, 9)),
                8: list(range(1, 17)),
                16: list(range(1, 17)),
            },
            use_chords=False,
            use_rests=False,
            use_pitchdrum_tokens=True,
        )
    )


def remi_tokens(tokenizer: Any, corpus: ScoreCorpus, window: int) -> np.ndarray:
    """Token ids of a window."""
    import symusic  # pyright: ignore[reportMissingImports]

    from melisma.symbolic.events import decode_score
    from melisma.symbolic.midi import write_midi

    score = decode_score(corpus.events[slice(*corpus.spans[window])])
    return np.array(tokenizer(symusic.Score.from_midi(write_midi(score))).ids, dtype=np.int32)


class RemiModel(nn.Module):
    """A Transformer over single tokens with the same conditions."""

    def __init__(self, settings: ScoreModelSettings, vocabulary: int) -> None:
        super().__init__()
        width = settings.width
        self.conditioner = ScoreConditioner(width)
        self.table = nn.Embedding(vocabulary + 1, width)
        self.trunk = Trunk(
            width=width, layers=settings.layers, heads=settings.heads, condition_width=width
        )
        self.head = nn.Linear(width, vocabulary)
        nn.init.normal_(self.table.weight, std=0.5)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor, conditions: ScoreConditions, dropout: float) -> Tensor:
        """Hidden state of every token, [batch, token, width]."""
        conditioning = self.conditioner(conditions)
        return self.trunk(self.table(tokens), conditioning, dropout=dropout)[0]


class RemiTask(Task):
    """Next-token cross-entropy on the same windows."""

    kind = "remi"

    def __init__(
        self, settings: ScoreTraining, train: ScoreCorpus, held: ScoreCorpus, windows: int
    ) -> None:
        self.settings, self.train, self.held = settings, train, held
        self.tokenizer = remi_tokenizer()
        rng = np.random.default_rng(settings.loop.seed)
        pool = rng.choice(len(train), windows, p=train.weight, replace=False)
        started = time.process_time()
        self.pool = [(int(w), remi_tokens(self.tokenizer, train, int(w))) for w in pool]
        self.pool = [one for one in self.pool if len(one[1]) > 16]
        self.pool.sort(key=lambda one: len(one[1]))
        print(f"{len(self.pool)} windows in {time.process_time() - started:.0f} s", flush=True)
        torch.manual_seed(settings.loop.seed)
        self.vocabulary = len(self.tokenizer)
        self.model = RemiModel(settings.model, self.vocabulary)

    @property
    def models(self) -> dict[str, nn.Module]:
        """The model."""
        return {"remi": self.model}

    def settings_tree(self) -> dict[str, Any]:
        """Sizes."""
        return dataclasses.asdict(self.settings.model)

    def losses(
        self, number: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """A batch of windows of similar length, transposed."""
        del number
        s = self.settings
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        batch = max(s.batch // 4, 1)
        first = int(rng.integers(len(self.pool) - batch + 1))
        chosen = self.pool[first : first + batch]
        windows = np.array([w for w, _ in chosen])
        plain = dataclasses.replace(s, melody=0.0, infill=0.0, tempo_moves=0.0)
        examples = [example_of(self.train, int(w), rng, plain) for w in windows]
        conditions = drop_conditioning(
            conditions_of(self.train, windows, examples), s.drop, generator
        )
        loss, count = self.negative_log_likelihood(
            [self._moved(t, rng) for _, t in chosen], conditions, s.dropout
        )
        return {"remi": loss / count}, {"nats": float(loss.detach()) / count}

    def _moved(self, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transposed tokens; the conditioned key is unchanged, a small disadvantage of this arm."""
        if not hasattr(self, "_pitches"):
            names = self.tokenizer.vocab
            self._pitches = np.full(len(names), -1)
            self._ids = np.full(128, -1)
            for name, number in names.items():
                if name.startswith("Pitch_"):
                    self._pitches[number] = int(name.split("_")[1])
                    self._ids[int(name.split("_")[1])] = number
        pitch = self._pitches[tokens]
        mine = pitch >= 0
        shift = int(rng.integers(-5, 7))
        moved = tokens.copy()
        if mine.any() and pitch[mine].min() + shift >= 0 and pitch[mine].max() + shift < 128:
            moved[mine] = self._ids[pitch[mine] + shift]
        return moved

    def negative_log_likelihood(
        self, tokens: list[np.ndarray], conditions: ScoreConditions, dropout: float
    ) -> tuple[Tensor, int]:
        """(sum of nats, tokens)."""
        longest = max(len(t) for t in tokens)
        table = np.full((len(tokens), longest), self.vocabulary)
        for i, one in enumerate(tokens):
            table[i, : len(one)] = one
        rows = torch.from_numpy(table).long()
        counted = rows[:, 1:] < self.vocabulary
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.model(rows, conditions, dropout)
            logits = self.model.head(hidden[:, :-1][counted]).float()
        targets = rows[:, 1:][counted]
        return F.cross_entropy(logits, targets, reduction="sum"), int(counted.sum())


# --- Markov --------------------------------------------------------------------------------------


def markov_loss(train: ScoreCorpus, held: ScoreCorpus, windows: np.ndarray, learnt: int) -> float:
    """Loss per note of interpolated counts, in nats: each field given the fields before it and up
    to one event back, with back-off to shorter contexts (Witten and Bell, 1991)."""
    tables: list[list[dict[Any, Counter[int]]]] = [
        [defaultdict(Counter) for _ in range(4)] for _ in FIELD_SIZES
    ]

    def contexts(row: tuple[int, ...], before: tuple[int, ...], field: int) -> list[Any]:
        short = row[field - 1] if field else before[POSITION]
        return [(), (short,), (row[:field], before[field]), (row[:field], before)]

    rng = np.random.default_rng(0)
    for window in rng.choice(len(train), learnt, p=train.weight):
        rows = [tuple(row) for row in train.events[slice(*train.spans[window])].tolist()]
        for before, row in itertools.pairwise(rows):
            for field in range(len(FIELD_SIZES)):
                if row[field] < FIELD_SIZES[field]:
                    for order, context in enumerate(contexts(row, before, field)):
                        tables[field][order][context][row[field]] += 1
    total = 0.0
    for window in windows:
        rows = [tuple(row) for row in held.events[slice(*held.spans[window])].tolist()]
        for before, row in itertools.pairwise(rows):
            for field, size in enumerate(FIELD_SIZES):
                if row[field] >= size:
                    continue
                share = 1.0 / size
                for order, context in enumerate(contexts(row, before, field)):
                    seen = tables[field][order].get(context)
                    if seen:
                        count, kinds = sum(seen.values()), len(seen)
                        share = (seen[row[field]] + kinds * share) / (count + kinds)
                total -= math.log(share)
    return total / notes_in(held, windows)


# --- One arm -------------------------------------------------------------------------------------


@torch.no_grad()
def event_loss(task: ArmTask, corpus: ScoreCorpus, windows: np.ndarray) -> float:
    """Loss per note of an arm of events, in nats; the loss of chords and parts is included."""
    plain = dataclasses.replace(
        task.settings, melody=0.0, infill=0.0, tempo_moves=0.0, silent_bars=0.0, longest=4_096
    )
    total, rng = 0.0, np.random.default_rng(3)
    for start in range(0, len(windows), 8):
        chosen = windows[start : start + 8]
        examples = [example_of(corpus, int(w), rng, plain) for w in chosen]
        total += float(
            task.negative_log_likelihood(examples, conditions_of(corpus, chosen, examples), 0.0)[
                0
            ].sum()
        )
    return total / notes_in(corpus, windows)


@torch.no_grad()
def remi_loss(task: RemiTask, corpus: ScoreCorpus, windows: np.ndarray) -> float:
    """Loss per note of the token arm on the same windows, in nats."""
    plain = dataclasses.replace(task.settings, melody=0.0, infill=0.0, tempo_moves=0.0)
    total, rng = 0.0, np.random.default_rng(3)
    for start in range(0, len(windows), 4):
        chosen = windows[start : start + 4]
        examples = [example_of(corpus, int(w), rng, plain) for w in chosen]
        tokens = [remi_tokens(task.tokenizer, corpus, int(w)) for w in chosen]
        total += float(
            task.negative_log_likelihood(tokens, conditions_of(corpus, chosen, examples), 0.0)[0]
        )
    return total / notes_in(corpus, windows)


def main() -> None:
    """Trains and judges one arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    arms = ("events", "index", "relative", "no-chords", "home", "remi", "lstm", "markov")
    parser.add_argument("--arm", choices=arms, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--weights", type=Path, help="where the arm's weights are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    joint = JointEmbedding.read(model_folder("default") / "joint.safetensors")
    train = read_score_corpus(arguments.scores / "train", joint)
    held = read_score_corpus(arguments.scores / "held", joint)
    windows = held_windows(held)
    if arguments.arm == "no-chords":
        train, held = without_chords(train), without_chords(held)
    loop = LoopSettings(
        updates=1_000,
        learning_rate=2e-3,
        warmup_updates=50,
        average_decay=0.99,
        seed=arguments.seed,
    )
    shape = ScoreModelSettings(width=160, layers=6, heads=5, window_events=4_096)
    settings = ScoreTraining(
        model=shape, loop=loop, home=arguments.arm == "home", piece_starts=0.0, tempo_moves=0.85
    )
    count, updates, used = 0, 0, 0.0
    if arguments.arm == "markov":
        loss = markov_loss(train, held, windows, 20_000)
    elif arguments.arm == "remi":
        task = RemiTask(settings, train, held, 24_000)
        count = sum(p.numel() for p in task.model.parameters())
        updates, used = train_for(task, loop, arguments.minutes)
        loss = remi_loss(task, held, windows)
        kept: nn.Module = task.model
    else:
        model = event_model(arguments.arm, shape, arguments.seed)
        arm = ArmTask(settings, train, held, model)
        count = sum(p.numel() for p in model.parameters())
        updates, used = train_for(arm, loop, arguments.minutes)
        loss = event_loss(arm, held, windows)
        kept = model
    if arguments.weights is not None and arguments.arm != "markov":
        from safetensors.torch import save_file

        arguments.weights.mkdir(parents=True, exist_ok=True)
        save_file(
            kept.state_dict(), arguments.weights / f"{arguments.arm}-{arguments.seed}.safetensors"
        )
    row = {
        "arm": arguments.arm,
        "seed": arguments.seed,
        "parameters": count,
        "processor_minutes": round(used / 60, 1),
        "updates": updates,
        "nats_a_note": round(loss, 4),
        "held_windows": len(windows),
        "held_notes": notes_in(held, windows),
    }
    print(json.dumps(row))
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / "score_arms.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
