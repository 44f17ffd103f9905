"""The judge's reading of sentences."""

from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.evaluate.models.text_features import (
    TABLE_ROWS,
    hash_words,
    split_words,
    without_numbers,
)


def test_words_lose_case_and_accents_but_a_sharp_stays() -> None:
    assert split_words("A Café in F# minor, 120 bpm!") == [
        "a", "cafe", "in", "f#", "minor", "120", "bpm",
    ]  # fmt: skip


def test_near_tempi_share_a_row_and_far_ones_do_not() -> None:
    near = set(hash_words("119")) & set(hash_words("121"))
    far = set(hash_words("60")) & set(hash_words("170"))
    assert near
    assert not far


def test_numbers_are_taken_out_with_their_unit() -> None:
    assert without_numbers("a waltz, 90 bpm, in 3/4") == "a waltz, , in /"
    assert without_numbers("at 120 beats per minute with flute") == "at with flute"


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_any_text_gives_rows_of_the_table(text: str) -> None:
    rows = hash_words(text)
    assert rows
    assert all(0 <= row < TABLE_ROWS for row in rows)
