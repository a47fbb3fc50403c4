"""What stands in a text that people should look at before it is shown: spam, insults, threats. Rules, no model.

Each rule that a text meets adds its weight as independent evidence: score = 1 - product of (1 - weight). Rules see
words through common disguises (l33t, spaced-out letters, accents). English words; the signs of spam in any language.
Short by intent: a newsroom adds its own words. Knows nothing of who wrote it, or to whom.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

TOXIC, SPAM = "toxicity", "spam"
_READ_CHARACTERS = 20_000
_DISGUISES = str.maketrans("013457@$!", "oieastasi")
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")

# (kind, reason, weight, pattern over the plain text)
_RULES: tuple[tuple[str, str, float, re.Pattern[str]], ...] = tuple(
    (kind, reason, weight, re.compile(pattern))
    for kind, reason, weight, pattern in (
        (
            TOXIC,
            "threat",
            0.9,
            r"\b(i|we)('ll| will| am going to|'m going to| gonna) (kill|hurt|shoot|stab|find) (you|u|them|him|her)\b",
        ),
        (
            TOXIC,
            "threat",
            0.9,
            r"\b(you|u) (will|should|deserve to|are going to) (die|burn|be shot|get raped)\b",
        ),
        (TOXIC, "self-harm urged", 0.95, r"\b(kill|hang|shoot) (yourself|urself|yourselves)\b|\bkys\b"),
        (
            TOXIC,
            "insult",
            0.6,
            r"\b(you|u|you're|ur|he|she|they)( are| is|'re|'s)? (all )?(a |an |such a |such an |so )?"
            r"(fucking |complete |total |bloody )?"
            r"(idiots?|morons?|scum|trash|garbage|pigs?|vermin|worthless|pathetic|retards?|retarded|disgusting|losers?)\b",
        ),
        (
            TOXIC,
            "profanity",
            0.45,
            r"\b(fuck\w*|motherfuck\w*|cunts?|assholes?|bitch(es)?|wankers?|dickheads?|shitheads?)\b",
        ),
        (TOXIC, "profanity", 0.2, r"\b(shit\w*|bullshit|crap|damn|bastards?)\b"),
        (
            SPAM,
            "offer of money",
            0.5,
            r"\b(earn|make|win|won)\b.{0,30}([$€£¥]\s?\d|\d\s?(dollars|usd|euros?|btc))",
        ),
        (
            SPAM,
            "urged to act",
            0.4,
            r"\b(click|tap) (here|the link|below|now)\b|\b(act|order|buy|subscribe|sign up) now\b|"
            r"\blimited (time )?offer\b",
        ),
        (
            SPAM,
            "goods of spam",
            0.6,
            r"\b(viagra|cialis|casino|payday loans?|forex signals?|crypto giveaway|double your (money|bitcoin)|"
            r"work from home and earn)\b",
        ),
        (
            SPAM,
            "asked to write elsewhere",
            0.45,
            r"\b(whatsapp|telegram|wechat)\b.{0,20}\+?\d[\d ()-]{6,20}|"
            r"\+\d[\d ()-]{8,20}.{0,20}\b(whatsapp|telegram|wechat)\b",
        ),
        (
            SPAM,
            "prize",
            0.5,
            r"\b(you('ve| have)? (been )?(won|selected|chosen)|claim your (prize|reward|gift))\b",
        ),
    )
)
_LINK = re.compile(r"(https?://|www\.)\S+|\b[\w-]+\.(ru|xyz|top|click|biz|tk|info)/\S*", re.IGNORECASE)
_SPACED = re.compile(r"\b(?:\w[ .*_-]){3,}\w\b")


@dataclass(frozen=True, slots=True)
class Judged:
    """`scores` by kind, 0..1; `reasons` in the order of the rules, each once."""

    scores: dict[str, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """The embedded rules and a newsroom's own words: word or phrase -> weight, found as whole words."""

    words: Mapping[str, float] = field(default_factory=dict)

    def judge(self, text: str) -> Judged:
        """Of the first 20,000 characters, in time linear in them. Thread-safe."""
        text = text[:_READ_CHARACTERS]
        said = _plain(text)
        found: list[tuple[str, str, float]] = []
        found += [(kind, reason, weight) for kind, reason, weight, rule in _RULES if rule.search(said)]
        found += [
            (TOXIC, f"listed: {word}", weight)
            for word, weight in self.words.items()
            if re.search(rf"(?<!\w){re.escape(_plain(word))}(?!\w)", said)
        ]
        found += _shape_of_spam(text)
        left = {TOXIC: 1.0, SPAM: 1.0}
        for kind, _, weight in found:
            left[kind] *= 1 - weight
        reasons = tuple(dict.fromkeys(reason for _, reason, _ in found))
        return Judged({kind: round(1 - rest, 4) for kind, rest in left.items()}, reasons)


def _plain(text: str) -> str:
    """Lower case without accents, invisible characters, digits in words, and gaps between single letters."""
    text = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text)).replace("’", "'")
    text = "".join(char for char in text if not unicodedata.combining(char)).lower()
    text = _SPACED.sub(lambda spaced: re.sub(r"[ .*_-]", "", spaced[0]), text)
    return " ".join(map(_undisguised, text.split()))


def _undisguised(token: str) -> str:
    if "://" in token or not any(char.isalpha() for char in token):
        return token
    word = token.rstrip("!?.,;:")
    return word.translate(_DISGUISES) + token[len(word) :]


def _shape_of_spam(text: str) -> list[tuple[str, str, float]]:
    found = []
    links = len(_LINK.findall(text))
    words = len(text.split())
    if links >= 3 or (links and words <= 6):
        found.append((SPAM, "mostly links", 0.6))
    elif links:
        found.append((SPAM, "a link", 0.2))
    if re.search(r"(.)\1{9,}", text):
        found.append((SPAM, "one character over and over", 0.4))
    letters = [char for char in text if char.isalpha()]
    if len(letters) >= 20 and sum(char.isupper() for char in letters) > 0.8 * len(letters):
        found.append((SPAM, "all in capitals", 0.3))
    if words >= 12 and len(set(text.lower().split())) < 0.34 * words:
        found.append((SPAM, "the same words over and over", 0.5))
    return found
