"""Words and phrases of captions for each value of each musical attribute.

Inputs: values of the closed vocabularies of `values.attributes`. Outputs: English words and
phrases in British spelling (`writer.py` converts half of the captions to American spelling). All
lists were written for this project; the ranges of the Italian tempo words follow the marks on a
common metronome, slightly widened because people do not use them strictly.
"""

from __future__ import annotations

import numpy as np

TEMPO_WORDS: tuple[tuple[float, float, tuple[str, ...]], ...] = (
    (0, 60, ("very slow", "extremely slow", "really slow", "crawling", "glacial")),
    (0, 80, ("slow", "slow-paced", "unhurried", "leisurely", "down-tempo", "slow-moving")),
    (80, 112, ("moderate", "medium-tempo", "mid-tempo", "moderately paced", "steady")),
    (112, 400, ("fast", "quick", "up-tempo", "brisk", "fast-paced", "swift", "rapid")),
    (150, 400, ("very fast", "really fast", "extremely fast", "racing", "breakneck", "very quick")),
)
"""Lowest bpm, bpm below which the words apply, adjectives (the limits were chosen)."""

TEMPO_NOUNS: tuple[tuple[float, float, tuple[str, ...]], ...] = (
    (0, 60, ("a very slow tempo", "a very slow pace", "a crawl", "an extremely slow tempo")),
    (0, 80, ("a slow tempo", "a slow pace", "an unhurried pace", "a relaxed, slow tempo")),
    (80, 112, ("a moderate tempo", "a medium tempo", "a walking pace", "a middling pace")),
    (112, 400, ("a fast tempo", "a quick pace", "a brisk pace", "high speed", "a rapid tempo")),
    (150, 400, ("a very fast tempo", "breakneck speed", "a furious pace", "a racing tempo")),
)
"""Lowest bpm, bpm below which they apply, noun phrases to follow "at"."""

ITALIAN_TEMPI: tuple[tuple[float, float, str], ...] = (
    (0, 48, "grave"),
    (40, 62, "largo"),
    (44, 64, "lento"),
    (55, 78, "adagio"),
    (60, 72, "larghetto"),
    (72, 102, "andante"),
    (80, 106, "andantino"),
    (94, 118, "moderato"),
    (104, 124, "allegretto"),
    (116, 160, "allegro"),
    (150, 182, "vivace"),
    (164, 202, "presto"),
    (192, 400, "prestissimo"),
)

TONIC_SPELLINGS: dict[str, tuple[str, ...]] = {
    "C": ("C",),
    "C#": ("C#", "C sharp", "C-sharp", "C♯", "Db", "D flat", "D-flat", "D♭"),
    "D": ("D",),
    "Eb": ("Eb", "E flat", "E-flat", "E♭", "D#", "D sharp", "D-sharp"),
    "E": ("E",),
    "F": ("F",),
    "F#": ("F#", "F sharp", "F-sharp", "F♯", "Gb", "G flat", "G-flat"),
    "G": ("G",),
    "Ab": ("Ab", "A flat", "A-flat", "A♭", "G#", "G sharp", "G-sharp"),
    "A": ("A",),
    "Bb": ("Bb", "B flat", "B-flat", "B♭", "A#", "A sharp"),
    "B": ("B",),
}
"""Spellings of each tonic, the standard one first."""

METRE_TAGS: dict[str, tuple[str, ...]] = {
    "2/4": ("2/4", "2/4 time", "two-four time", "in two"),
    "3/4": ("3/4", "3/4 time", "three-four time", "waltz time", "triple metre", "in three"),
    "4/4": ("4/4", "4/4 time", "common time", "four-four time", "in four"),
    "6/8": ("6/8", "6/8 time", "six-eight time", "compound time"),
}
METRE_PHRASES: dict[str, tuple[str, ...]] = {
    "2/4": ("in 2/4", "in two", "in 2/4 time", "two beats to the bar"),
    "3/4": ("in 3/4", "in three", "in waltz time", "in triple time", "three beats to the bar"),
    "4/4": ("in 4/4", "in four", "in common time", "four beats to the bar", "in 4/4 time"),
    "6/8": ("in 6/8", "in six-eight", "in a rolling 6/8", "with a 6/8 lilt", "in compound time"),
}

FAMILY_WORDS: dict[str, tuple[str, ...]] = {
    "piano": ("piano", "acoustic piano", "keys"),
    "electric piano": ("electric piano", "electric keys", "e-piano"),
    "harpsichord": ("harpsichord", "plucked keyboard"),
    "mallets": ("mallet percussion", "mallets", "tuned percussion", "pitched percussion"),
    "organ": ("organ",),
    "accordion": ("accordion", "free reeds"),
    "guitar": ("guitar", "acoustic guitar", "unplugged guitar"),
    "electric guitar": ("electric guitar", "e-guitar", "amplified guitar"),
    "bass": ("bass", "bassline", "bass line"),
    "strings": ("strings", "string section", "bowed strings", "string instruments"),
    "harp": ("harp", "plucked instruments"),
    "choir": ("choir", "voices", "choral voices", "wordless voices"),
    "brass": ("brass", "brass instruments", "horns"),
    "reeds": ("reeds", "reed instruments", "woodwinds"),
    "flutes": ("flutes", "woodwinds", "wind instruments"),
    "synth": ("synth", "synthesiser", "electronic sounds", "synths"),
    "drums": ("drums", "percussion", "drum kit", "beats"),
}
"""Words for a family whose instrument is not named."""

INSTRUMENT_SYNONYMS: dict[str, tuple[str, ...]] = {
    "piano": ("piano", "piano", "piano", "grand piano", "acoustic piano"),
    "electric piano": ("electric piano", "e-piano", "Rhodes piano"),
    "FM electric piano": ("electric piano", "digital electric piano", "e-piano"),
    "drums": ("drums", "drums", "drum kit", "drum set"),
    "string ensemble": ("strings", "string section", "string ensemble", "string orchestra"),
    "slow strings": ("strings", "slow strings", "string section"),
    "synth strings": ("synth strings", "strings", "string pad"),
    "warm synth strings": ("warm strings", "synth strings", "string pad"),
    "pizzicato strings": ("pizzicato strings", "pizzicato"),
    "tremolo strings": ("tremolo strings", "trembling strings"),
    "choir": ("choir", "choral voices", "voices"),
    "voice oohs": ("voices", "humming voices", "wordless voices"),
    "synth voice": ("synth voice", "synthetic choir", "voices"),
    "soprano sax": ("soprano sax", "soprano saxophone", "saxophone"),
    "alto sax": ("alto sax", "alto saxophone", "saxophone", "sax"),
    "tenor sax": ("tenor sax", "tenor saxophone", "saxophone", "sax"),
    "baritone sax": ("baritone sax", "bari sax", "baritone saxophone"),
    "French horn": ("French horn", "horn"),
    "English horn": ("English horn", "cor anglais"),
    "brass section": ("brass", "brass section", "horn section"),
    "synth brass": ("synth brass", "brassy synth"),
    "trumpet": ("trumpet",),
    "double bass": ("double bass", "upright bass", "acoustic bass"),
    "fingered bass": ("electric bass", "bass guitar", "e-bass"),
    "picked bass": ("picked bass", "electric bass", "bass guitar"),
    "nylon-string guitar": ("nylon-string guitar", "classical guitar", "acoustic guitar", "guitar"),
    "steel-string guitar": ("steel-string guitar", "acoustic guitar", "folk guitar"),
    "clean electric guitar": ("clean electric guitar", "electric guitar", "e-guitar"),
    "distorted guitar": ("distorted guitar", "distorted electric guitar", "heavy electric guitar"),
    "overdriven guitar": ("overdriven guitar", "overdriven electric guitar", "electric guitar"),
    "jazz guitar": ("jazz guitar", "electric jazz guitar"),
    "muted electric guitar": ("muted electric guitar", "palm-muted guitar"),
    "vibraphone": ("vibraphone", "vibes"),
    "church organ": ("church organ", "pipe organ", "organ"),
    "drawbar organ": ("drawbar organ", "Hammond organ", "electric organ"),
    "rock organ": ("rock organ", "Hammond organ", "electric organ"),
    "reed organ": ("reed organ", "harmonium"),
    "harmonica": ("harmonica", "mouth organ"),
    "cello": ("cello", "cello", "violoncello"),
    "glockenspiel": ("glockenspiel", "bells"),
    "tubular bells": ("tubular bells", "chimes", "church bells"),
    "timpani": ("timpani", "kettledrums"),
    "dulcimer": ("dulcimer", "hammered dulcimer"),
    "steel drums": ("steel drums", "steel pan"),
    "square lead": ("square-wave synth", "chiptune synth", "synth lead"),
    "saw lead": ("sawtooth synth", "synth lead", "lead synth"),
    "warm pad": ("warm pad", "synth pad", "soft synth pad"),
    "new age pad": ("new age pad", "synth pad", "airy pad"),
    "polysynth pad": ("polysynth", "synth chords"),
    "synth bass": ("synth bass", "electronic bass"),
}
"""Synonyms of some of the names in `instruments.INSTRUMENTS`, the name itself included."""

STYLE_NOUNS: dict[str, tuple[str, ...]] = {
    "waltz": ("waltz", "waltz tune", "ballroom waltz", "waltz"),
    "march": ("march", "marching tune", "parade march", "military march"),
    "ballad": ("ballad", "pop ballad", "instrumental ballad"),
    "bossa nova": ("bossa nova", "bossa", "bossa nova tune", "Brazilian bossa nova"),
    "swing": ("swing tune", "jazz tune", "swing number", "swinging jazz piece", "jazz standard"),
    "rock": ("rock track", "rock tune", "rock song", "rock instrumental"),
    "lo-fi": ("lo-fi beat", "lofi hip hop beat", "chillhop track", "lo-fi track", "lofi tune"),
    "dance": ("dance track", "electronic dance track", "EDM track", "club track", "dance tune"),
    "renaissance": ("Renaissance piece", "early music piece", "piece of Renaissance music"),
    "baroque": ("baroque piece", "Baroque work", "piece of baroque music"),
    "classical": ("classical piece", "classical work", "piece from the Classical era"),
    "romantic": ("Romantic-era piece", "nineteenth-century piece", "Romantic classical piece"),
    "impressionist": ("impressionist piece", "impressionistic piece"),
    "folk": ("folk tune", "traditional tune", "folk melody", "folk piece"),
    "church": ("hymn", "church hymn", "sacred piece", "hymn tune"),
    "song": ("song", "art song", "song melody", "song arrangement"),
    "game": ("video game tune", "game theme", "video game track", "piece of game music"),
    "drum groove": ("drum groove", "drum beat", "drum loop", "drum pattern", "percussion groove"),
}
STYLE_TAGS: dict[str, tuple[str, ...]] = {
    "waltz": ("waltz", "waltz feel", "ballroom"),
    "march": ("march", "marching", "marching band feel", "military march"),
    "ballad": ("ballad", "pop ballad", "ballad style"),
    "bossa nova": ("bossa nova", "bossa", "brazilian", "latin jazz"),
    "swing": ("swing", "jazz", "swing jazz", "swung", "jazzy"),
    "rock": ("rock", "rock music", "rock band", "pop rock"),
    "lo-fi": ("lo-fi", "lofi", "lofi hip hop", "chillhop", "chill beats"),
    "dance": ("dance", "edm", "electronic dance music", "house", "club"),
    "renaissance": ("renaissance", "early music", "renaissance music"),
    "baroque": ("baroque", "baroque music", "baroque style"),
    "classical": ("classical", "classical era", "classical period"),
    "romantic": ("romantic era", "romantic period", "19th century", "romantic classical"),
    "impressionist": ("impressionist", "impressionism", "impressionistic"),
    "folk": ("folk", "traditional", "folk music", "folk tune"),
    "church": ("church", "sacred", "hymn", "church music", "devotional"),
    "song": ("song", "art song", "songlike"),
    "game": ("video game music", "game music", "game soundtrack", "vgm", "retro game"),
    "drum groove": ("drum groove", "drums only", "drum loop", "beat", "drum break"),
}
STYLE_ADVERBIALS: dict[str, tuple[str, ...]] = {
    "waltz": ("in the manner of a waltz", "with a waltz feel"),
    "march": ("in march style", "like a march"),
    "ballad": ("in ballad style", "like a ballad"),
    "bossa nova": ("in bossa nova style", "with a bossa feel"),
    "swing": ("in swing style", "with a jazz swing feel", "in a jazzy style"),
    "rock": ("in a rock style", "with a rock feel"),
    "lo-fi": ("in lo-fi style", "with a lofi hip hop feel"),
    "dance": ("in a dance style", "with a club beat", "in the style of dance music"),
    "renaissance": ("in Renaissance style", "from the Renaissance"),
    "baroque": ("in baroque style", "from the Baroque"),
    "classical": ("in the classical style", "in classical style"),
    "romantic": ("in the Romantic style", "from the Romantic period"),
    "impressionist": ("in an impressionist style", "in impressionist colours"),
    "folk": ("in a folk style", "with a folk flavour"),
    "church": ("in the style of a hymn", "in a church style"),
    "song": ("like a song", "in the manner of a song"),
    "game": ("in video game style", "like the music of a video game"),
    "drum groove": ("as a drum groove", "like a drum loop"),
}

MOOD_WORDS: dict[str, tuple[str, ...]] = {
    "calm": (
        "calm", "peaceful", "relaxing", "soothing", "tranquil", "serene", "mellow", "relaxed",
        "restful", "easygoing", "quietly flowing", "chill", "calming", "gentle", "placid",
    ),
    "happy": (
        "happy", "cheerful", "joyful", "bright", "sunny", "upbeat", "merry", "light-hearted",
        "feel-good", "optimistic", "uplifting", "carefree", "jolly", "glad",
    ),
    "sad": (
        "sad", "melancholic", "sorrowful", "mournful", "wistful", "melancholy", "gloomy",
        "heartbroken", "lonely", "plaintive", "downcast", "bittersweet", "tearful",
    ),
    "tense": (
        "tense", "suspenseful", "nervous", "uneasy", "anxious", "dramatic", "restless",
        "unsettling", "agitated", "edgy", "nail-biting", "on edge",
    ),
    "tender": (
        "tender", "gentle", "loving", "warm", "intimate", "sweet", "affectionate", "delicate",
        "soft-hearted", "sentimental", "heartfelt", "caressing",
    ),
    "energetic": (
        "energetic", "lively", "driving", "vigorous", "exciting", "powerful", "spirited",
        "high-energy", "vibrant", "dynamic", "fiery", "pumping", "rousing",
    ),
    "solemn": (
        "solemn", "dignified", "stately", "ceremonial", "majestic", "noble", "reverent",
        "serious", "grave", "devout", "prayerful", "grand",
    ),
    "playful": (
        "playful", "cheeky", "bouncy", "quirky", "humorous", "fun", "mischievous", "whimsical",
        "funny", "teasing", "impish", "skipping",
    ),
    "dark": (
        "dark", "ominous", "menacing", "sinister", "brooding", "gloomy", "eerie", "shadowy",
        "foreboding", "spooky", "haunting", "grim",
    ),
    "dreamy": (
        "dreamy", "ethereal", "floating", "hazy", "atmospheric", "otherworldly", "hypnotic",
        "misty", "nostalgic", "ambient", "drifting", "magical",
    ),
}  # fmt: skip

DYNAMICS_WORDS: dict[str, tuple[str, ...]] = {
    "soft": ("soft", "quiet", "hushed", "softly played", "low-volume", "very quiet"),
    "medium": ("moderately loud", "mezzo-forte", "at a medium volume", "medium loud"),
    "loud": ("loud", "forceful", "powerful", "fortissimo", "booming", "strong"),
}
DENSITY_WORDS: dict[str, tuple[str, ...]] = {
    "sparse": ("sparse", "minimal", "spacious", "bare", "uncluttered", "few notes"),
    "medium": ("medium density", "moderately full texture"),
    "busy": ("busy", "dense", "full of notes", "intricate", "many notes", "rich texture"),
}
REGISTER_WORDS: dict[str, tuple[str, ...]] = {
    "low": ("low register", "deep", "low-pitched", "low notes", "dark low range"),
    "middle": ("middle register", "mid range", "mid-register"),
    "high": ("high register", "high-pitched", "high notes", "upper register"),
}
ARTICULATION_WORDS: dict[str, tuple[str, ...]] = {
    "staccato": ("staccato", "short notes", "detached", "clipped notes", "crisp and short"),
    "mixed": ("mixed articulation", "long and short notes"),
    "legato": ("legato", "smooth", "flowing lines", "sustained notes", "long connected notes"),
}

AMERICAN: dict[str, str] = {
    "metre": "meter", "colour": "color", "colours": "colors", "grey": "gray", "centre": "center",
    "harbour": "harbor", "theatre": "theater", "flavour": "flavor", "neighbour": "neighbor",
    "neighbours": "neighbors", "synthesiser": "synthesizer", "favourite": "favorite",
    "honour": "honor", "travelling": "traveling", "film": "movie",
    "jewellery": "jewelry", "grandfather's": "grandpa's", "cosy": "cozy", "mum": "mom",
}  # fmt: skip
"""British words and spellings with their American equivalents."""

_MASS_NAMES = frozenset({
    "brass", "percussion", "mallet percussion", "tuned percussion", "pitched percussion", "celli",
    "synth brass", "pizzicato", "polysynth",
})  # fmt: skip
"""Mass nouns: without an article though not plural."""


def is_plural(noun: str) -> bool:
    """Whether a name is plural (drums, strings), unlike bass and brass."""
    return noun.endswith("s") and not noun.endswith(("bass", "brass"))


def article(noun: str) -> str:
    """ "a" or "an", by the initial sound (an EDM track, a euphonium)."""
    first = noun.split()[0]
    if first.isupper() and len(first) > 1:
        return "an" if first[0] in "AEFHILMNORSX" else "a"
    low = noun.lower()
    if low.startswith(("eu", "uni", "uk", "one", "use")):
        return "a"
    return "an" if low[0] in "aeiouéå" or low.startswith(("8", "11 ", "hour", "honest")) else "a"


def with_article(noun: str) -> str:
    """The noun with "a" or "an"; plural and mass nouns without an article.

    >>> with_article("oboe"), with_article("drums"), with_article("bass")
    ('an oboe', 'drums', 'a bass')
    """
    if is_plural(noun) or noun in _MASS_NAMES or noun.startswith("a "):
        return noun
    return f"{article(noun)} {noun}"


def choose(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    """Choose one of the options, all equally likely."""
    return options[int(rng.random() * len(options))]


def tempo_adjectives(tempo_bpm: float) -> tuple[str, ...]:
    """All adjectives that apply to a tempo."""
    return tuple(w for lo, hi, words in TEMPO_WORDS if lo <= tempo_bpm < hi for w in words)


def tempo_nouns(tempo_bpm: float) -> tuple[str, ...]:
    """All noun phrases that apply to a tempo, to follow "at"."""
    return tuple(w for lo, hi, words in TEMPO_NOUNS if lo <= tempo_bpm < hi for w in words)


def italian_tempi(tempo_bpm: float) -> tuple[str, ...]:
    """All Italian tempo words that apply to a tempo."""
    return tuple(word for lo, hi, word in ITALIAN_TEMPI if lo <= tempo_bpm <= hi)


def joined(rng: np.random.Generator, nouns: list[str]) -> str:
    """Join nouns: "x", "x and y", "x, y and z" (at random "&" or the Oxford comma)."""
    if len(nouns) < 2:
        return "".join(nouns)
    last_link = choose(rng, (" and ", " and ", " & " if len(nouns) == 2 else ", and "))
    return ", ".join(nouns[:-1]) + last_link + nouns[-1]
