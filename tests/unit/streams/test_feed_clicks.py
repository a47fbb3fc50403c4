"""Readers of recorded clicks: each format, time order, ids that stay, and bad lines that cost nothing else."""

import json
from pathlib import Path

import pytest

from streams.errors import EnvironmentProblem, UserMistake
from streams.events import Click
from streams.feed.clicks import BadLines, read_clicks


def read(path: Path, text: str | bytes, form: str, strict: bool = False) -> tuple[list[Click], BadLines]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    bad = BadLines(strict)
    return list(read_clicks(path, form, bad)), bad


def test_movielens_inter_is_sorted_by_time_and_ratings_become_kinds(tmp_path: Path) -> None:
    text = (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "1\ta\t5\t300\n2\tb\t3\t100\n1\tc\t2\t200\n3\td\t3.5\t100\n"
    )
    clicks, bad = read(tmp_path / "ml.inter", text, "movielens")

    assert [(c.user, c.item, c.kind, c.at) for c in clicks] == [
        ("2", "b", "click", 100_000),
        ("3", "d", "click", 100_000),
        ("1", "c", "skip", 200_000),
        ("1", "a", "like", 300_000),
    ]
    assert bad.count == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings.dat", "1::1193::5::978300760\n"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,1193,5.0,978300760\n"),
    ],
)
def test_other_spellings_of_movielens(tmp_path: Path, name: str, text: str) -> None:
    clicks, _ = read(tmp_path / name, text, "movielens")

    assert [(c.user, c.item, c.kind, c.at) for c in clicks] == [("1", "1193", "like", 978_300_760_000)]


def test_yoochoose_sessions_are_readers(tmp_path: Path) -> None:
    text = "SessionId\tItemId\tTime\n7\t21\t1396438212.318\n7\t20\t1396437466.94\n"
    clicks, _ = read(tmp_path / "y.tsv", text, "yoochoose")

    assert [(c.user, c.item, c.at) for c in clicks] == [
        ("7", "20", 1_396_437_466_940),
        ("7", "21", 1_396_438_212_318),
    ]


def test_the_original_yoochoose_file(tmp_path: Path) -> None:
    clicks, bad = read(tmp_path / "c.dat", "1,2014-04-07T10:51:09.277Z,214536502,0\n1,x,2,0\n", "yoochoose")

    assert [(c.user, c.item, c.at) for c in clicks] == [("1", "214536502", 1_396_867_869_277)]
    assert bad.first == [(2, "'x' is no ISO time")]


def test_jsonl_keeps_its_own_ids_and_every_field(tmp_path: Path) -> None:
    line = {
        "id": "e1",
        "user": "u",
        "item": "i",
        "kind": "dwell",
        "at": 5,
        "dwell_s": 2.5,
        "context": {"a": 1},
    }
    clicks, _ = read(tmp_path / "c.jsonl", json.dumps(line) + "\n", "jsonl")

    assert clicks == [Click("e1", "u", "i", "dwell", 5, 2.5, None, {"a": 1})]


def test_ids_are_the_same_again_and_differ_between_equal_lines(tmp_path: Path) -> None:
    line = '{"user":"u","item":"i","kind":"click","at":5}\n'
    first, _ = read(tmp_path / "c.jsonl", line * 2, "jsonl")
    grown, _ = read(tmp_path / "c.jsonl", line * 3, "jsonl")

    assert len({c.id for c in first}) == 2
    assert [c.id for c in grown[:2]] == [c.id for c in first]


def test_bad_lines_are_counted_with_their_numbers_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = b'{"user":"u","item":"i","kind":"click","at":5}\n'
    text = good + b"\xff\xfe\n{\n\n" + b'{"user":"u","item":"i","kind":"stare","at":5}\n' + good.rstrip()
    clicks, bad = read(tmp_path / "c.jsonl", text, "jsonl")

    assert len(clicks) == 2
    assert [number for number, _ in bad.first] == [2, 3, 5]
    assert "kind" in bad.first[2][1]


def test_numbers_that_are_none_are_bad_lines(tmp_path: Path) -> None:
    text = "1\ta\tnan\t5\n1\ta\t3\tinf\n1\ta\t3\t-5\n1\ta\t3\n1\t\t3\t5\n1\ta\t3\t5\n"
    clicks, bad = read(tmp_path / "ml.inter", text, "movielens")

    assert len(clicks) == 1
    assert [number for number, _ in bad.first] == [1, 2, 3, 4, 5]


def test_strict_stops_at_the_first_bad_line(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="line 2"):
        read(tmp_path / "ml.inter", "1\ta\t3\t5\nwrong\n", "movielens", strict=True)


def test_an_empty_file_has_no_clicks(tmp_path: Path) -> None:
    assert read(tmp_path / "c.jsonl", "", "jsonl") == ([], BadLines())


def test_no_file_and_an_unknown_format_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"nothing\.jsonl"):
        list(read_clicks(tmp_path / "nothing.jsonl", "jsonl", BadLines()))
    with pytest.raises(UserMistake, match="movielens"):
        list(read_clicks(tmp_path / "nothing.jsonl", "parquet", BadLines()))
