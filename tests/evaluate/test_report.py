"""The page has every figure of its card, says what was reached, and trusts no name."""

import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest

from melisma.evaluate.metrics.figures import Figure
from melisma.evaluate.metrics.statistics import Interval
from melisma.evaluate.report.card import Card, CardRow, PieceRow, Protocol, read_card, write_card
from melisma.evaluate.report.comparison import ComparedCards, Difference
from melisma.evaluate.report.html import (
    comparison_page,
    report_page,
    write_comparison,
    write_report,
)
from melisma.evaluate.report.verdict import goal_lines, verdict_of

EVIL = "<script>alert(1)</script>\" onmouseover='x' &amp; {}"
PROTOCOL = Protocol(
    subject="sound",
    reference="held-out renders",
    reference_hash="0123456789abcdef",
    prompts="captions",
    prompts_hash="fedcba9876543210",
    embeddings={"music": "aa11"},
    judge="ff00",
    rate_hz=24_000,
    level="-18 LUFS",
    seconds=10.0,
    count=2,
    seed=0,
    repeats=2_000,
)
FAD = CardRow(
    key="fad_music",
    section="quality",
    figure=Figure(what="Fréchet distance", value=1.5, low=1.3, high=1.7, ceiling=0.5, count=2),
    better="lower",
    goals={"C + 5F": 1.6, "C + 2F": 1.0},
)
LEAD = CardRow(
    key="lead",
    section="adherence",
    figure=Figure(what="lead recognised", value=0.4, low=0.3, high=0.5, chance=0.06, ceiling=0.8),
    better="higher",
)
BIAS = CardRow(
    key="bias_lead",
    section="bias",
    figure=Figure(
        what="lead of open prompts",
        value=0.9,
        details={"too often": "piano", "sentence": "Lead: too often piano (100 %)."},
    ),
    better="lower",
)


def card(*rows: CardRow, name: str = "a model", plots: dict[str, object] | None = None) -> Card:
    return Card(
        title=name,
        judged={"model": name},
        protocol=PROTOCOL,
        rows=rows,
        pieces=(
            PieceRow(name="1.wav", prompt="rain", values={"lead": 1.0, "x": 0.25}),
            PieceRow(name=EVIL, prompt=EVIL, values={"lead": 0.0}, texts={"lead": EVIL}),
        ),
        plots=plots or {},
        notes=("KLD was not measured: nothing to compare with.",),
        made_by={"command": EVIL},
    )


class Reader(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "path", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "path", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []  # every tag is closed in its turn
    return reader


def test_every_figure_of_the_card_is_on_the_page() -> None:
    rows = [
        CardRow(key=f"r{n}", section=name, figure=Figure(what=f"figure {n}", value=n + 0.25))
        for n, name in enumerate(("quality", "faults", "form", "codec", "something new"))
    ]
    page = report_page(card(FAD, LEAD, BIAS, *rows))
    words = " ".join(read(page).words)
    for row in (FAD, LEAD, BIAS, *rows):
        assert row.figure.what in words
    for text in ("1.30 to 1.70", "Quality", "Artefacts", "something new", "50\N{NO-BREAK SPACE}%"):
        assert text in words
    assert page.count('class="bar"') == 2 * len((FAD, LEAD, BIAS, *rows))  # cell and image
    assert "KLD was not measured" in words
    assert "0123456789abcdef" in words


def test_nothing_comes_from_outside_and_only_our_script_runs() -> None:
    page = report_page(card(FAD))
    reader = read(page)
    assert "http" not in page.replace("http-equiv", "")
    assert not {"src", "href"} & {
        name
        for tag, given in reader.tags
        for name in given
        if not (tag == "a" and str(given.get("href")).startswith("#"))
    }
    policy = next(given for tag, given in reader.tags if "http-equiv" in given)["content"]
    assert "default-src 'none'" in str(policy)
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", str(policy))


def test_names_prompts_and_commands_are_escaped() -> None:
    evil = CardRow(
        key=EVIL, section=EVIL, figure=Figure(what=EVIL, value=1.0, details={EVIL: EVIL})
    )
    plot = {"kind": EVIL, "title": EVIL, "section": "quality"}
    reader = read(report_page(card(evil, name=EVIL, plots={EVIL: plot})))
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert not any("onmouseover" in given for _, given in reader.tags)
    assert "".join(reader.words).count(EVIL) >= 8


def test_the_verdict_says_which_goals_are_reached() -> None:
    verdict = verdict_of(card(FAD, LEAD, BIAS))
    assert verdict.headline == "1 of 2 goals is reached, over 2 pieces."
    first, second = verdict.goals
    assert (first.met, first.sure) == (True, False)
    assert (second.met, second.sure) == (False, True)
    assert "goal C + 5F = 1.60 is reached, 0.100 better, though" in first.words
    assert "goal C + 2F = 1.00 is not reached, 0.500 short of it." in second.words
    text = " ".join(verdict.sentences)
    assert (
        "Farthest from real music: lead recognised (50\N{NO-BREAK SPACE}% of the ceiling)." in text
    )
    assert "too often piano" in text
    assert "One thing could not be measured" in text
    assert "no goal was set" in verdict_of(card(LEAD)).headline


def test_a_figure_without_value_reaches_nothing() -> None:
    empty = CardRow(
        key="x",
        section="quality",
        figure=Figure(what="x", value=float("nan")),
        better="lower",
        goals={"a": 1.0},
    )
    assert goal_lines(empty) == []
    assert "not known" in report_page(card(empty))


def test_pieces_can_be_sorted_by_every_column() -> None:
    reader = read(report_page(card(LEAD)))
    buttons = [given for tag, given in reader.tags if tag == "button"]
    assert [given["title"] for given in buttons] == [
        "piece",
        "prompt",
        "lead recognised",
        "x",
        "what was found, in words",
    ]
    values = [given["data-v"] for tag, given in reader.tags if "data-v" in given]
    assert values == ["1.0", "0.25", "0.0", ""]


def test_plots_stand_in_their_section() -> None:
    plots: dict[str, object] = {
        "a": {"kind": "histogram", "title": "Levels", "section": "faults", "edges": [0, 1],
              "counts": [1]},
        "b": {"kind": "cube", "title": "Cube"},
    }  # fmt: skip
    page = report_page(card(FAD, plots=plots))
    assert page.index('id="faults"') < page.index("Levels</h3><svg")
    assert page.index('id="quality"') < page.index("This plot cannot be rendered.")


def test_a_card_from_disk_gives_the_same_page(tmp_path: Path) -> None:
    first = card(FAD, LEAD, BIAS)
    write_card(tmp_path / "card.json", first)
    write_report(tmp_path / "new" / "card.html", read_card(tmp_path / "card.json"))
    assert (tmp_path / "new" / "card.html").read_text("utf-8") == report_page(first)


def difference(what: str, low: float, high: float, better: str) -> Difference:
    change = Interval(value=(low + high) / 2, low=low, high=high, count=9)
    return Difference(key=what, what=what, before=1.0, after=2.0, change=change, better=better)


def test_the_page_of_two_cards(tmp_path: Path) -> None:
    compared = ComparedCards(
        differences=(
            difference("same", -0.1, 0.2, "higher"),
            difference("up", 0.1, 0.2, "higher"),
            difference("worse <b>", 0.1, 0.2, "lower"),
        ),
        notes=("one piece was left out",),
        pairs=9,
    )
    first, second = card(FAD, name="old"), card(FAD, name="new")
    page = comparison_page(first, second, compared)
    words = " ".join(read(page).words)
    assert (
        "Over 9 pairs the second is better in 1, worse in 1; 1 show no significant difference."
        in words
    )
    assert "Better: up." in words
    assert "+0.150" in words
    assert words.index("worse <b>") < words.index("same")
    assert "one piece was left out" in words
    write_comparison(tmp_path / "both.html", first, second, compared)
    assert (tmp_path / "both.html").read_text("utf-8") == page


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_colours_have_enough_contrast(place: int) -> None:
    templates = resources.files("melisma.evaluate.report") / "templates"
    style = templates.joinpath("report.css").read_text("utf-8")
    palette = {name: re.findall(rf"--{name}: (#\w{{6}})", style)[place] for name in (
        "paper", "raised", "ink", "soft", "accent", "second",
    )}  # fmt: skip
    for ground in ("paper", "raised"):
        for front in ("ink", "soft", "accent", "second"):
            bright, dark = sorted(
                (luminance(palette[ground]), luminance(palette[front])), reverse=True
            )
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ground, front)
