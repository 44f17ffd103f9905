"""Which of the two ways of making music suits a prompt: drawn sound, or a score that is rendered.

Enters: words and whether exact settings were given. Leaves: the engine's name and the reason, in
words. The rule follows the figures in the README: the score keeps to a stated key far better and to
metres, makers and several players at all; a tempo is met as often by drawn sound, which is as near
to the words, nearer to real music by its Fréchet distances, and has textures that no soundfont has.
"""

from __future__ import annotations

import re

from melisma.joint.instrument_words import named_families
from melisma.joint.settings_words import read_settings
from melisma.values.traditions import named_composer, named_tradition

_TEXTURE = re.compile(
    r"\b(ambient|drones?|noise|noisy|texture\w*|soundscapes?|atmospher\w*|glitch\w*|vinyl|lo-?fi|"
    r"distort\w*|reverb\w*|echo\w*|sound effects?|tape|synthwave|techno|dubstep|trance)\b",
    re.IGNORECASE,
)


def favoured_engine(words: str, exact: bool) -> tuple[str, str]:
    """("score" or "sound", why).

    >>> favoured_engine("a waltz for clarinet in D minor", False)[0]
    'score'
    >>> favoured_engine("a dark ambient drone", False)[0]
    'sound'
    """
    if exact:
        return "score", "exact settings were given, which the notes of a score keep"
    said = read_settings(words)
    if said.tonality is not None:
        return "score", "the words state a key, which the notes of a score keep"
    texture = _TEXTURE.search(words)
    if texture is not None:
        return "sound", f'"{texture[0]}" is a matter of sound, not of notes'
    maker = named_composer(words) or named_tradition(words)
    if maker is not None:
        return "score", f"{maker} is a way of writing notes"
    if said.metre is not None:
        return "score", "the words state a metre, which the notes of a score keep"
    if len(named_families(words)[0]) > 1:
        return "score", "the words name several players, who all play in a score"
    return "sound", "drawn sound is nearer to words that state no key, metre or players"
