"""A newsroom's mixed feed of texts: short comments, news leads, long articles. A function of its seed."""

import numpy as np

# Share of the feed, and words from and to; a word is a token of the models' vocabulary, and two tokens frame a text.
NAMES = ("comments", "leads", "articles")
KINDS = ((0.60, 3, 38), (0.25, 58, 198), (0.15, 254, 510))
WORDS = """
    the of and to in a is that for it was on with as be by this are from at or have an not which we can all more has new
    one about their when there out time people year city world report game team market price film music story government
    police school water house night week money work company country river storm train election minister doctor player
    season match goal book street court party science health energy summer winter garden bridge road
""".split()  # noqa: SIM905 - a list of so many would be a page


def mixed_feed(texts: int, seed: int) -> list[str]:
    """So many texts in order of arrival; each begins with its number, so that no two are the same."""
    random = np.random.default_rng(seed)
    kinds = random.choice(len(KINDS), texts, p=[share for share, _, _ in KINDS])
    return [_text(random, number, kind) for number, kind in enumerate(kinds)]


def texts_of(kind: int, texts: int, seed: int) -> list[str]:
    """As `mixed_feed`, of one of `KINDS` alone."""
    random = np.random.default_rng(seed)
    return [_text(random, number, kind) for number in range(texts)]


def _text(random: np.random.Generator, number: int, kind: int) -> str:
    _, least, most = KINDS[kind]
    words = random.choice(WORDS, random.integers(least, most + 1) - 1)
    return " ".join((str(number), *words))
