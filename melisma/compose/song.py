"""A prompt becomes sound. Everything that happens on the way is called from this page.

Words -> the joint embedding speaks style and attributes -> the language model draws SEMANTIC, then
COARSE, then FINE tokens, each of the whole piece, looking back over a window -> the codec decodes
-> every candidate is heard, and the one that is nearest to the words is kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from melisma.codec import AcousticCodec
from melisma.compose.asking import Asked, ask, conditions_of
from melisma.corpus.hearing import FrozenEars
from melisma.joint.attributes import BLOCKS
from melisma.lm import Drawing, NativeEngine, TokenModel, draw, draw_parallel
from melisma.lm.conditions import Conditions
from melisma.measure.receipt import receipt_of_sound
from melisma.semantic import SemanticTokenizer
from melisma.sound.mastering import master
from melisma.values.attributes import FAMILIES, Facts
from melisma.values.prompt import Prompt
from melisma.values.tokens import FRAME_RATE_HZ, SAMPLE_RATE_HZ, TokenGrid
from melisma.values.waveform import Waveform

AGREEMENT_WEIGHT = 0.5
"""Weight of heard attributes beside the similarity of the vectors, when candidates are ranked."""
RANKS = ("words", "receipt")
"""How candidates may be ranked."""
RECEIPT_WEIGHT = 10.0
"""Weight of the receipt where it ranks: the embedding decides among those that agree alike."""
HEARD_ATTRIBUTES = ("tempo", "tonality", "lead")
"""Attributes that candidates are ranked by, where the prompt asks for them."""


@dataclass(frozen=True, kw_only=True)
class DrawingSettings:
    """How every stage draws; guidance and temperature as the judge chose among eleven settings."""

    guidance_semantic: float = 2.0
    """Classifier-free guidance of the semantic stage; 1 is none."""
    temperature_semantic: float = 0.85
    top_k_semantic: int = 200
    guidance_coarse: float = 2.5
    temperature_coarse: float = 0.85
    top_k_coarse: int = 60
    temperature_fine: float = 0.4


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One piece of music and how it came about."""

    waveform: Waveform
    """24 kHz mono, as decoded: not mastered yet."""
    prompt: Prompt
    seed: int
    similarity: float
    """Cosine of words and sound in the joint space, of the candidate kept."""
    candidates: list[float]
    """What every candidate scored; the highest was kept."""
    semantic: TokenGrid | None
    """None where the model has no semantic stage."""
    acoustic: TokenGrid
    conditions: dict[str, str]
    """What was asked of the model, in words."""
    stated: Facts
    """What the words and the exact settings state outright, for the receipt."""


class Composer:
    """The frozen ears and the three stages."""

    def __init__(
        self,
        ears: FrozenEars,
        semantic: TokenModel | None,
        coarse: TokenModel,
        fine: TokenModel | None,
        *,
        name: str,
        licence: str,
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        """`precision` and `threads` of the drawing stages, as `NativeEngine` takes them. `semantic`
        None: the coarse stage draws from the words alone (MusicLM's ablation, section 5.4). `fine`
        None: the coarse levels alone are decoded. `ValueError` where the coarse stage reads
        semantic tokens that no stage draws."""
        if semantic is None and coarse.settings.conditions.source_levels:
            raise ValueError("the coarse stage reads semantic tokens: a semantic stage is missing")
        self.ears = ears
        self.semantic = None if semantic is None else semantic.eval()
        self.coarse = coarse.eval()
        self._engines = {
            name: NativeEngine(stage, precision=precision, threads=threads)
            for name, stage in (("semantic", self.semantic), ("coarse", self.coarse))
            if stage is not None
        }
        self.fine = None if fine is None else fine.eval()
        self.name, self.licence = name, licence
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Twelve digits that change with anything that decides what is drawn."""
        if not self._fingerprint:
            digest = hashlib.sha256("".join(sorted(self.ears.fingerprints.values())).encode())
            for stage in (self.semantic, self.coarse, self.fine):
                if stage is not None:
                    for tensor in stage.state_dict().values():
                        digest.update(tensor.float().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:12]
        return self._fingerprint

    def generate(
        self,
        prompt: Prompt | str,
        *,
        duration_seconds: float = 10.0,
        seed: int = 0,
        settings: DrawingSettings | None = None,
        best_of: int = 4,
    ) -> Waveform:
        """One piece, mastered and ready to be written: words in, sound out.

        `duration_seconds` counts where the prompt is a string. What was understood and how near it
        came is in the `Piece` that `generate_pieces` returns. Raises `ValueError` as `Prompt` does.
        """
        if isinstance(prompt, str):
            prompt = Prompt(words=prompt, duration_seconds=duration_seconds)
        pieces = self.generate_pieces(prompt, seed=seed, settings=settings, best_of=best_of)
        return master(pieces[0].waveform)

    def generate_pieces(
        self,
        prompts: Sequence[Prompt] | Prompt | str,
        *,
        seed: int = 0,
        settings: DrawingSettings | None = None,
        best_of: int = 4,
        rank: str = "words",
        progress: Callable[[float], None] | None = None,
    ) -> list[Piece]:
        """Pieces for prompts of one duration; piece i has the seed `seed + i`.

        `best_of`: candidates drawn for each, of which one is kept by `rank`: "words", the one whose
        sound the joint embedding and its heads find nearest to the words; "receipt", the one whose
        measured tempo, tonality, metre and instruments agree best with what the words state, the
        embedding deciding among equals. `progress` hears the share done, 0 to 1. `ValueError` where
        there is nothing to do.
        """
        if isinstance(prompts, str):
            prompts = Prompt(words=prompts)
        prompts = [prompts] if isinstance(prompts, Prompt) else list(prompts)
        if not prompts:
            raise ValueError("there is no prompt: give one or more")
        if best_of < 1:
            raise ValueError(f"best-of is at least 1, not {best_of}")
        if rank not in RANKS:
            raise ValueError(f'no ranking "{rank}": known are {", ".join(RANKS)}')
        if len({prompt.duration_seconds for prompt in prompts}) > 1:
            raise ValueError("prompts of one call have one duration: call once for each")
        frames = math.ceil(prompts[0].duration_seconds * FRAME_RATE_HZ)
        asked, generators = [], []
        for i, prompt in enumerate(prompts):
            one = ask(self.ears.joint, prompt, _generator(seed + i, 0, "asking"))
            asked += [one] * best_of
            generators += [_generator(seed + i, c, "drawing") for c in range(best_of)]
        semantic, acoustic = self._draw(
            conditions_of(asked, frames),
            frames,
            generators,
            settings or DrawingSettings(),
            progress,
        )
        sound = self.ears.codec.decode_tokens(acoustic)
        similarities, scores = self._judge(sound, asked, rank)
        pieces = []
        for i, prompt in enumerate(prompts):
            mine = range(i * best_of, (i + 1) * best_of)
            best = max(mine, key=lambda c: scores[c])
            samples = round(prompt.duration_seconds * SAMPLE_RATE_HZ)
            pieces.append(
                Piece(
                    waveform=Waveform(
                        samples=sound[best : best + 1, :samples].numpy(), rate_hz=SAMPLE_RATE_HZ
                    ),
                    prompt=prompt,
                    seed=seed + i,
                    similarity=similarities[best],
                    candidates=[scores[c] for c in mine],
                    semantic=None
                    if semantic is None
                    else _grid(semantic[best], self.ears.semantic),
                    acoustic=_grid(acoustic[best], self.ears.codec),
                    conditions=asked[best].shown(),
                    stated=asked[best].reading.stated,
                )
            )
        return pieces

    def _draw(
        self,
        conditions: Conditions,
        frames: int,
        generators: list[torch.Generator],
        settings: DrawingSettings,
        progress: Callable[[float], None] | None,
    ) -> tuple[Tensor | None, Tensor]:
        """All stages: (semantic [batch, level, frame], acoustic [batch, level, frame])."""
        drawn = [stage for stage in (self.semantic, self.coarse) if stage is not None]
        steps = [stage.pattern.steps(frames) for stage in drawn]

        def tell(before: int) -> Callable[[int], None] | None:
            if (hears := progress) is None:
                return None
            return lambda step: hears(0.95 * (before + step) / sum(steps))

        semantic = None
        if self.semantic is not None:
            semantic = draw(
                self._engines["semantic"],
                conditions,
                frames,
                Drawing(
                    temperature=settings.temperature_semantic,
                    top_k=settings.top_k_semantic,
                    guidance=settings.guidance_semantic,
                ),
                generators,
                progress=tell(0),
            )
        given = dataclasses.replace(conditions, source=semantic)
        acoustic = draw(
            self._engines["coarse"],
            given,
            frames,
            Drawing(
                temperature=settings.temperature_coarse,
                top_k=settings.top_k_coarse,
                guidance=settings.guidance_coarse,
            ),
            generators,
            progress=tell(sum(steps[:-1])),
        )
        if self.fine is not None:
            fine = Drawing(temperature=settings.temperature_fine)
            acoustic = draw_parallel(self.fine, acoustic, given, fine, generators)
        return semantic, acoustic

    def heard_families(self, waveform: Waveform) -> dict[str, float]:
        """Probability of each family of instruments sounding, by the joint embedding's head;
        24 kHz mono."""
        frame = SAMPLE_RATE_HZ // FRAME_RATE_HZ
        whole = waveform.mono[: len(waveform.mono) // frame * frame]
        _, rows = self.ears.windows_of(torch.from_numpy(whole)[None])
        return families_of(rows[0].mean(axis=0))

    def _judge(
        self, sound: Tensor, asked: list[Asked], rank: str
    ) -> tuple[list[float], list[float]]:
        """(cosine of words and sound, score for the ranking) of every candidate."""
        frame = SAMPLE_RATE_HZ // FRAME_RATE_HZ
        sound = sound[:, : sound.shape[1] - sound.shape[1] % frame]
        similarities, scores = [], []
        for candidate, one in zip(sound, asked, strict=True):
            vectors, rows = self.ears.windows_of(candidate[None])
            mean = vectors[0].mean(axis=0)
            similarity = float(mean @ one.vector / max(float(np.linalg.norm(mean)), 1e-9))
            row = rows[0].mean(axis=0)
            agreement = [
                _heard(row, name, one.attributes[name])
                for name in HEARD_ATTRIBUTES
                if name in one.attributes
            ]
            score = similarity + AGREEMENT_WEIGHT * float(np.mean(agreement or [0.0]))
            if rank == "receipt":
                heard = Waveform(samples=candidate[None].numpy(), rate_hz=SAMPLE_RATE_HZ)
                receipt = receipt_of_sound(heard, one.reading.stated, families_of(row))
                score = RECEIPT_WEIGHT * receipt.agreement + score
            similarities.append(similarity)
            scores.append(score)
        return similarities, scores


def families_of(row: np.ndarray) -> dict[str, float]:
    """Probabilities of the families from a row of the attribute heads [150]."""
    return dict(zip(FAMILIES, row[BLOCKS["families"]].tolist(), strict=True))


def _grid(tokens: Tensor, tokenizer: AcousticCodec | SemanticTokenizer) -> TokenGrid:
    return TokenGrid(
        tokens=tokens.cpu().numpy(),
        vocabulary=tokenizer.settings.vocabulary,
        frame_rate_hz=FRAME_RATE_HZ,
        fingerprint=tokenizer.fingerprint,
    )


def _heard(row: np.ndarray, name: str, wanted: int) -> float:
    """Probability with which a class is heard; a tempo may lie one bin beside."""
    block = row[BLOCKS[name]]
    if name == "tempo":
        return float(block[max(wanted - 1, 0) : wanted + 2].sum())
    return float(block[wanted])


def _generator(seed: int, candidate: int, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{candidate}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
