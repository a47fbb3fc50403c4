"""Catalogues from files: JSON lines and MovieLens' items, bad lines left out, the same ids each time."""

from pathlib import Path

import pytest

from streams.errors import EnvironmentProblem
from streams.events import Item
from streams.feed.clicks import BadLines
from streams.feed.items import read_items

NOW_MS = 1_700_000_000_000


def read(path: Path, text: str | bytes) -> tuple[list[Item], BadLines]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    bad = BadLines()
    return list(read_items(path, bad, NOW_MS)), bad


def test_json_lines_fill_in_id_and_time(tmp_path: Path) -> None:
    lines = '{"item":"a","title":"A","topics":["x"]}\n\n{"item":"b","id":"own","at":5,"available":false}\n'
    items, bad = read(tmp_path / "items.jsonl", lines)
    again, _ = read(tmp_path / "items.jsonl", lines)

    assert [(i.item, i.title, i.topics, i.at, i.available) for i in items] == [
        ("a", "A", ["x"], NOW_MS, True),
        ("b", None, [], 5, False),
    ]
    assert items[1].id == "own"
    assert items[0].id
    assert items == again
    assert bad.count == 0


def test_movielens_classes_become_topics(tmp_path: Path) -> None:
    text = (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's\nwrong\n"
    )
    items, bad = read(tmp_path / "ml.item", text)

    assert [(i.item, i.title, i.topics) for i in items] == [("1", "Toy Story", ["Animation", "Children's"])]
    assert [number for number, _ in bad.first] == [3]


def test_bad_lines_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    items, bad = read(tmp_path / "items.jsonl", b'{"item":""}\n\xff\n{"title":"no item"}\n{"item":"a"}')

    assert [item.item for item in items] == ["a"]
    assert [number for number, _ in bad.first] == [1, 2, 3]


def test_no_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="nothing"):
        list(read_items(tmp_path / "nothing", BadLines(), NOW_MS))
