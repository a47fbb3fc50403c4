"""What must not be read by others: names at the edge, contacts in logs and errors, values of dead letters."""

import io
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from streams.clock import SystemClock
from streams.codecs import decode_clicks
from streams.errors import EnvironmentProblem
from streams.events import Click, Privacy
from streams.feed.deadletters import letter_of
from streams.observe.logs import set_up
from streams.privacy.letters import Names
from streams.refusals.deadletters import Letter, Sender, dead_letters
from streams.refusals.rejected import Place, Rejected
from streams.secrecy.masking import masked
from streams.secrecy.pseudonyms import Pseudonyms
from streams.secrecy.sealing import SEALED, Seal

CARD = "4539 5787 6362 1486"


class Record:
    """A consumed record."""

    def __init__(self, key: bytes | None, value: bytes | None, headers: Any = ()) -> None:
        self.key, self.value, self.headers = key, value, headers
        self.offset, self.timestamp, self.partition = 7, 1_767_225_600_000, 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("write to a.b+c@mail.example.co.uk, now", "write to [email], now"),
        (f"card {CARD}!", "card [card]!"),
        ("card 4539578763621487", "card 4539578763621487"),  # the check digit is wrong
        ("call +49 30 1234567 or (030) 123 45 67", "call [phone] or [phone]"),
        ("call 030-1234567", "call [phone]"),
        ("offset 1234567890 of clicks[3] at 17:04:05, 3.14159265358979", None),
        ("t-2026-11-26 10.0.0.1:9092 took 0.123456789 s", None),
        ("id 550e8400-e29b-41d4-a716-446655440000", None),
        ("", None),
    ],
)
def test_contacts_are_masked_and_nothing_else(text: str, wanted: str | None) -> None:
    assert masked(text) == (text if wanted is None else wanted)
    assert masked(masked(text)) == masked(text)


def test_every_right_card_number_is_found_however_it_is_grouped() -> None:
    draw = random.Random(5)
    for _ in range(500):
        digits = [draw.randrange(10) for _ in range(draw.randrange(12, 19))]
        weighed = [
            (2 * one - 9 if one > 4 else 2 * one) if n % 2 == 0 else one
            for n, one in enumerate(reversed(digits))
        ]
        digits.append(-sum(weighed) % 10)
        text = "".join(map(str, digits))
        grouped = draw.choice(["", " ", "-"]).join(text[n : n + 4] for n in range(0, len(text), 4))
        assert "[" in masked(f"x {grouped} y"), grouped


def test_masking_takes_little_time_whatever_it_is_given() -> None:
    for nasty in ("1" * 10**6, "a@" * 10**5, "+1 " * 10**5, "0-" * 10**5, "a" * 10**6 + "@"):
        clock = SystemClock()
        began_s = clock.monotonic_s()
        masked(nasty)
        assert clock.monotonic_s() - began_s < 2.0


def test_logs_are_masked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    try:
        set_up("info", SystemClock(), "json")
        logging.getLogger("streams.x").warning("bad %s", "me@example.org")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert json.loads(written.getvalue())["message"] == "bad [email]"


def keys_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "keys"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_pseudonyms_hide_names_survive_a_replay_and_know_old_keys(tmp_path: Path) -> None:
    old = Pseudonyms.read(keys_file(tmp_path, "a " + "s" * 16))
    assert old is not None
    known = old.of("ada")
    assert known.startswith("a.") and "ada" not in known[2:] and known != old.of("ben")
    assert old.of(known) == known == old.of("ada")
    both = Pseudonyms.read(keys_file(tmp_path, "# newest first", "b " + "t" * 16, "", "a " + "s" * 16))
    assert both is not None
    assert both.of("ada").startswith("b.") and both.all_of("ada") == [both.of("ada"), known]
    event = Click("1", "ada", "i", "click", 1)
    assert both.renamed(event).user == both.of("ada") and event.user == "ada"
    assert both.renamed(Privacy("1", "ada", "forget", 1)).user == both.of("ada")
    other = Pseudonyms.read(keys_file(tmp_path, "a " + "u" * 16))
    assert other is not None and other.of("ada") != known
    assert Pseudonyms.read(None) is None


@pytest.mark.parametrize("line", ["a short", "a.b " + "s" * 16, "# nothing", "a", "x" * 17 + " " + "s" * 16])
def test_a_wrong_file_of_keys_is_one_line_without_a_secret(tmp_path: Path, line: str) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        Pseudonyms.read(keys_file(tmp_path, line))
    said = str(caught.value)
    assert "pseudonym_keys_file" in said and "s" * 16 not in said and "short" not in said


def letters(value: bytes, seal: Seal | None, message: str = "no", mask: bool = True) -> Any:
    rejected = Rejected(Record(b"ada", value, [("ce_id", b"1")]), "schema", message)  # type: ignore[arg-type]
    sender = Sender("group", "class", "worker", seal, mask)
    sent = dead_letters("clicks", 0, [Letter(rejected, Place("clicks", 0, 7, 0))], sender, 1 << 20)
    assert sent is not None and sent.left_out == 0 and sent.emit.headers is not None
    return Record(sent.emit.keys[0], bytes(sent.emit.values[0] or b""), sent.emit.headers[0])


def test_errors_of_dead_letters_are_masked_and_their_values_are_not() -> None:
    record = letters(b"call me@example.org", None, "got me@example.org")
    headers = dict(record.headers)
    assert headers["__connect.errors.exception.message"] == b"got [email]"
    assert b"me@" not in headers["__connect.errors.exception.stacktrace"]
    assert record.value == b"call me@example.org"
    assert (
        b"me@"
        in dict(letters(b"", None, "got me@example.org", mask=False).headers)[
            "__connect.errors.exception.message"
        ]
    )


def test_a_sealed_letter_opens_with_its_key_also_after_a_rotation_and_with_no_other(tmp_path: Path) -> None:
    first, second = Fernet.generate_key(), Fernet.generate_key()
    record = letters(b"secret of ada", Seal([first]))
    assert b"secret" not in record.value and dict(record.headers)[SEALED] == b"fernet"

    assert letter_of("clicks", record, Seal([second, first])).value == b"secret of ada"
    assert letter_of("clicks", record, Seal([second, first])).sealed is False
    for seal in (None, Seal([second])):
        shut = letter_of("clicks", record, seal)
        assert shut.sealed and shut.value == record.value
    changed = bytearray(record.value)
    changed[30] ^= 1
    assert Seal([first]).open(bytes(changed)) is None

    record.key = None  # a letter without a key is looked into
    assert Names.of(["ada"], Seal([first])).are_of(record)
    assert not Names.of(["ada"], Seal([second])).are_of(record)
    with pytest.raises(EnvironmentProblem, match="dead_letter_keys_file"):
        Seal.read(keys_file(tmp_path, "no key"))


def test_a_sealed_letter_that_is_too_large_is_left_out_like_any_other() -> None:
    seal = Seal([Fernet.generate_key()])
    rejected = Rejected(Record(b"ada", b"x" * 1200, []), "schema", "no")  # type: ignore[arg-type]
    letter = Letter(rejected, Place("clicks", 0, 7, 0))
    for its, left_out in ((None, 0), (seal, 1)):
        sent = dead_letters("clicks", 0, [letter], Sender("group", "class", "worker", its), 2200)
        assert sent is not None and sent.left_out == left_out
        assert (sent.emit.values == [None]) == bool(left_out)


def test_an_undecodable_click_gives_a_message_without_its_text() -> None:
    bad = Record(b"ada", b'{"user": "me@example.org"', [])
    (rejected,) = decode_clicks(0, [bad], 10**9).rejected
    assert "example" not in rejected.message
