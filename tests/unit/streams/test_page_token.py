"""The token of the page from a file, as secrets are mounted: what counts, what is none, what is one clear line."""

import logging
from pathlib import Path

import pytest

from streams.errors import EnvironmentProblem, UserMistake
from streams.observe.guard import token_of
from streams.settings import load


def test_a_token_is_taken_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    observe = load(overrides={"observe": {"token_file": str(tmp_path / "token")}}).observe
    assert token_of(observe) == "0123456789abcdef"


def test_no_file_is_no_token_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observe = load(overrides={"observe": {"token_file": str(tmp_path / "token")}}).observe
    with caplog.at_level(logging.WARNING):
        assert token_of(observe) is None
    assert "observe.token_file" in caplog.text


@pytest.mark.parametrize("content", ["", "short", "0123456789abcdé"])
def test_what_is_no_token_is_refused_with_what_to_do(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content)
    observe = load(overrides={"observe": {"token_file": str(tmp_path / "token")}}).observe
    with pytest.raises(EnvironmentProblem, match=r"observe\.token_file"):
        token_of(observe)


def test_two_tokens_are_a_mistake() -> None:
    with pytest.raises(UserMistake, match="both given"):
        load(overrides={"observe": {"token": "0123456789abcdef", "token_file": "/run/token"}})
