"""Whatever the file: clicks come in time order, none is lost, and lines of one time keep the file's order."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.feed.clicks import BadLines, read_clicks

lines = st.lists(st.one_of(st.integers(0, 2**45), st.integers(0, 3), st.none()), max_size=60)


@settings(max_examples=150, deadline=None)
@given(lines)
def test_order(times: list[int | None]) -> None:
    """A number is a good line with that time, None a bad line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.jsonl"
        path.write_text(
            "".join(
                "nonsense\n"
                if at is None
                else json.dumps({"user": "u", "item": str(n), "kind": "click", "at": at}) + "\n"
                for n, at in enumerate(times)
            )
        )
        bad = BadLines()
        clicks = list(read_clicks(path, "jsonl", bad))

    expected = sorted((at, n) for n, at in enumerate(times) if at is not None)
    assert [(c.at, int(c.item)) for c in clicks] == expected
    assert bad.count == times.count(None)
    assert len({c.id for c in clicks}) == len(clicks)
