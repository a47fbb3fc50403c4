"""E-mail addresses, telephone numbers and card numbers in text that people may read: taken out. Pure.

Found by their form: a card number is 13 to 19 digits with a right check digit (Luhn); a telephone number begins with +
or 0, or stands in brackets and groups. What only looks like one is masked as well; what hides its form is not.
"""

import re

MOST_CHARS = 20_000  # longer text is cut: a mask must cost little whatever it is given

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_DIGITS = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w])")
_PHONE = re.compile(
    r"(?<![\w.:/-])(?:\+\d{1,3}[ ./-]?(?:\(\d{1,5}\)[ ./-]?)?|\(0?\d{1,5}\)[ ./-]?|0(?=\d))"
    r"\d(?:[ ./-]?\d){5,12}(?![\w])"
)


def masked(text: str) -> str:
    """The text with `[email]`, `[card]` and `[phone]` in their places."""
    if len(text) > MOST_CHARS:
        text = f"{text[:MOST_CHARS]}…"
    text = _EMAIL.sub("[email]", text) if "@" in text else text
    text = _DIGITS.sub(_card, text)
    return _PHONE.sub("[phone]", text)


def _card(found: "re.Match[str]") -> str:
    digits = [int(one) for one in found[0] if one.isdigit()]
    doubled = [2 * one - 9 if one > 4 else 2 * one for one in digits[-2::-2]]
    return "[card]" if (sum(digits[::-2]) + sum(doubled)) % 10 == 0 else found[0]
