"""`headrace evaluate clicks` on small made-up files: figures by hand, formats, bad input, and the picture."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_up_clicks import random_pairs
from streams.cli.run import run

# Users a, b, c; seconds. Sorted by time: a x, a y, b x, b y, c x, c z, b x (one line out of order).
SEVEN = "SessionId\tItemId\tTime\na\ty\t11\na\tx\t10\nb\tx\t12\nb\ty\t13\nc\tx\t14\nc\tz\t15\nb\tx\t16\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str | bytes, name: str = "clicks") -> str:
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["evaluate", "clicks", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """One line on standard error, exit code 2."""
    assert run(["evaluate", "clicks", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    return shown.err


def by_layer(found: dict[str, Any]) -> dict[str, Any]:
    return {row["layer"]: row for row in found["rows"]}


def test_figures_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """int(0.2 * 7) = 1: scored are y of a (1), y of b (3), z of c (5), x of b (6), of x, y, z."""
    found = evaluated(capsys, written(SEVEN), "--format", "yoochoose", "--top", "2")

    assert (found["events"], found["users"], found["items"], found["scored"]) == (7, 3, 3, 4)
    assert found["first_events_left_out"] == 2  # of b and c
    popularity = by_layer(found)["popularity"]  # ranks 3, 2, 3, 1
    assert popularity["recall_at_k"] == popularity["hr_at_k"] == 0.5
    assert popularity["mrr_at_k"] == pytest.approx((1 / 2 + 1) / 4)
    assert popularity["ndcg_at_k"] == pytest.approx((1 / math.log2(3) + 1) / 4, abs=1e-6)
    assert popularity["mpr"] == pytest.approx(100 * (2 + 1 + 2 + 0) / 3 / 4, abs=1e-6)
    assert popularity["coverage"] == pytest.approx(2 / 3, abs=1e-6)
    # Lists [x], [x, y], [x, y], [x, y]: exposures 0, 3, 4 in ascending order
    assert popularity["gini"] == pytest.approx((-2 * 0 + 0 * 3 + 2 * 4) / (3 * 7), abs=1e-6)
    assert by_layer(found)["last-item"]["recall_at_k"] == 0.25
    assert by_layer(found)["item-knn"]["recall_at_k"] == 0.5
    low, high = popularity["ci95"]["recall_at_k"]
    assert 0 <= low <= 0.5 <= high <= 1
    gaps = {gap["gap"]: gap for gap in found["by_gap"]}
    # 1 s between events 0 and 1, 2 and 3, 4 and 5; 3 s between 3 and 6
    assert gaps["to 1 minute"]["scored"] == 4 and gaps["to 1 minute"]["recall_at_k"]["popularity"] == 0.5
    assert gaps["same second"]["recall_at_k"]["popularity"] is None


def test_new_items_only_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(capsys, written(SEVEN), "--format", "yoochoose", "--top", "1", "--new-only")

    assert (found["scored"], found["repeats_left_out"]) == (3, 1)
    assert by_layer(found)["popularity"]["recall_at_k"] == pytest.approx(1 / 3, abs=1e-6)  # ranks 2, 1, 2
    assert "own-first" not in by_layer(found)  # the blend, when own items are taken out


def test_a_limit_is_of_events_in_time_order_and_the_catalogue_is_theirs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first five by time: a x, a y, b x, b y, c x; z is not there."""
    found = evaluated(capsys, written(SEVEN), "--format", "yoochoose", "--limit", "5")

    assert (found["events"], found["users"], found["items"], found["scored"]) == (5, 3, 2, 2)


def test_half_of_ties(capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(
        capsys, written(SEVEN), "--format", "yoochoose", "--ties", "half", "--layers", "popularity"
    )

    assert [row["layer"] for row in found["rows"]] == ["popularity"]
    assert found["rows"][0]["mpr"] == pytest.approx(100 * (1.5 + 1 + 2 + 0) / 3 / 4, abs=1e-6)


MOVIELENS = {
    "u.data": "a\tx\t5\t10\na\ty\t5\t20\na\tw\t3\t25\nb\tx\t5\t30\nb\ty\t5\t40\n",
    "ratings.dat": "a::x::5::10\na::y::5::20\na::w::3::25\nb::x::5::30\nb::y::5::40\n",
    "ratings.csv": "userId,movieId,rating,timestamp\na,x,5.0,10\na,y,5.0,20\na,w,3.0,25\nb,x,5.0,30\nb,y,5.0,40\n",
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "a\tx\t5\t10\na\ty\t5\t20\na\tw\t3\t25\nb\tx\t5\t30\nb\ty\t5\t40\n",
}


@pytest.mark.parametrize("name", MOVIELENS)
def test_every_spelling_of_movielens(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`fives`: w is not there, scoring from event int(0.3 * 4) = 1 on. `all`: w is there, from int(0.2 * 5) = 1 on."""
    path = written(MOVIELENS[name], name)
    fives = evaluated(capsys, path, "--format", "movielens")

    assert (fives["protocol"], fives["k"], fives["events"], fives["items"]) == ("fives", 10, 4, 2)
    # y of a: alone left; y of b: the same
    assert fives["scored"] == 2 and by_layer(fives)["popularity"]["mpr"] == 0
    every = evaluated(capsys, path, "--format", "movielens", "--protocol", "all")
    assert (every["events"], every["items"], every["scored"]) == (5, 3, 3)
    # y of a among y, w, nothing known: rank 2; w of a alone: 1; y of b among y, w, once each: 2
    assert by_layer(every)["popularity"]["mpr"] == pytest.approx(100 * (1 + 0 + 1) / 3 / 3, abs=1e-6)


def test_leave_one_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(
        capsys, written(MOVIELENS["u.data"]), "--format", "movielens", "--protocol", "leave-one-out"
    )

    assert found["scored"] == 2  # w of a, y of b
    assert by_layer(found)["popularity"]["mpr"] == pytest.approx(100 * (0 + 1) / 3 / 2, abs=1e-6)


def test_headraces_own_clicks_with_other_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    """An impression is neither scored nor part of a history; like and dwell are."""
    events = [("a", "x", "click"), ("a", "y", "impression"), ("a", "y", "like"), ("a", "z", "dwell")]
    lines = [
        json.dumps({"user": user, "item": item, "kind": kind, "at": 1000 * i, "dwell_s": 30.0})
        for i, (user, item, kind) in enumerate(events)
    ]
    found = evaluated(capsys, written("\n".join(lines)), "--format", "jsonl")

    assert (found["protocol"], found["events"], found["scored"]) == ("all", 4, 2)


def test_a_file_to_learn_from_is_not_scored_and_shares_users_and_items(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Scored from the first event on: z of a comes to known items x, y, and a is known."""
    train = written("SessionId\tItemId\tTime\na\tx\t1\nb\tx\t2\nb\ty\t3\n", "train")
    path = written("SessionId\tItemId\tTime\na\ty\t4\nc\tz\t5\n")
    found = evaluated(capsys, path, "--format", "yoochoose", "--train", train)

    assert (found["trained_events"], found["events"], found["scored"]) == (3, 2, 1)
    assert found["first_events_left_out"] == 1
    assert by_layer(found)["last-item"]["mpr"] == 0  # y followed x once, in the file to learn from
    assert found["notes"] == []


def test_learning_from_the_future_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    train = written("SessionId\tItemId\tTime\na\tx\t1\nb\tx\t99\n", "train")
    path = written("SessionId\tItemId\tTime\na\ty\t4\n")
    found = evaluated(capsys, path, "--format", "yoochoose", "--train", train)

    assert found["notes"] == ["1 events of train are later than the first one scored"]


def chain(events: int) -> str:
    """Visits of two, p then q, with a pair (p, q) that changes every 40 events."""
    lines = ["SessionId\tItemId\tTime"]
    for i in range(events):
        pair = i // 40
        lines.append(f"s{i // 2}\t{'pq'[i % 2]}{pair}\t{100 * i}")
    return "\n".join(lines) + "\n"


def test_freshness_says_what_late_learning_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """After 80 % of the stream new pairs come up: a frozen table never lists them, one updated per click misses one."""
    arguments = ("--format", "yoochoose", "--top", "1", "--new-only", "--freshness", "--layers", "last-item")
    found = evaluated(capsys, written(chain(1000)), *arguments)
    recall = {entry["delay"]: entry["rows"][0]["recall_at_k"] for entry in found["freshness"]}

    assert [entry["delay_s"] for entry in found["freshness"]] == [0, 60, 900, 3600, 86400, None]
    assert found["scored"] == 100
    # 5 pairs of 20 visits, 200 s apart. Visit j of a pair is right once its first one, 200 j seconds ago, is learnt:
    # j >= 1 of 20 for up to 200 s, j >= 4.5 for 15 minutes, j >= 18 for an hour.
    assert recall == {
        "click": 0.95,
        "1 min": 0.95,
        "15 min": 0.75,
        "1 h": 0.1,
        "1 day": 0,
        "frozen": 0,
    }
    assert found["rows"][0]["recall_at_k"] == recall["click"]


def test_the_text_has_the_same_figures_as_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    path = written(chain(300))
    arguments = ["evaluate", "clicks", path, "--format", "yoochoose", "--freshness"]
    assert run(arguments) == 0
    text = capsys.readouterr().out
    found = evaluated(capsys, *arguments[2:])

    for row in found["rows"]:
        (line,) = [line for line in text.splitlines() if line.startswith(row["layer"])][:1]
        low, high = row["ci95"]["recall_at_k"]
        assert f"{row['recall_at_k']:.3f} ({low:.3f}-{high:.3f})" in line
        assert f"{row['gini']:.3f}" in line
    assert "click over frozen" in text
    assert "ties against us" in text


def test_bad_lines_are_counted_named_and_cost_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    good = evaluated(capsys, written(SEVEN), "--format", "yoochoose")
    text = SEVEN + "a\tx\n" + "a\tx\tnoon\n" + "a\tx\t99999999999999\n"
    found = evaluated(capsys, written(text, "bad"), "--format", "yoochoose")

    assert found["rows"] == good["rows"]
    (bad,) = found["bad_lines"]
    assert (bad["file"], bad["count"]) == ("bad", 3)
    assert [number for number, _ in bad["first"]] == [9, 10, 11]
    assert run(["evaluate", "clicks", "bad", "--format", "yoochoose"]) == 0
    assert "line 10: time 'noon' is no number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("", ("--format", "movielens"), "is empty"),
        (None, ("--format", "movielens"), "there is no file"),
        (SEVEN, ("--format", "netflix"), "--format netflix: it is one of jsonl, movielens, yoochoose"),
        (SEVEN, ("--format", "yoochoose", "--protocol", "best"), "--protocol best"),
        (SEVEN, ("--format", "yoochoose", "--protocol", "fives"), "yoochoose has no ratings"),
        (SEVEN, ("--format", "yoochoose", "--protocol", "all", "--new-only"), "--new-only"),
        (SEVEN, ("--format", "yoochoose", "--layers", "blend,magic"), "--layers magic"),
        (SEVEN, ("--format", "yoochoose", "--ties", "mine"), "--ties mine"),
        (SEVEN, ("--format", "yoochoose", "--layers", "list"), "--layers list needs --list JSON"),
        (SEVEN, ("--format", "yoochoose", "--list", "no"), "--list is not JSON"),
        (SEVEN, ("--format", "yoochoose", "--list", '{"thetta": 1}'), "--list: thetta: Extra inputs"),
        (SEVEN, ("--format", "yoochoose", "--interleave", "blend"), "--interleave takes two rows"),
        (
            SEVEN,
            ("--format", "yoochoose", "--interleave", "blend,magic"),
            "--interleave magic: it is not among",
        ),
        (SEVEN, ("--format", "yoochoose", "--interleave", "blend,blend"), "two different rows"),
        (SEVEN, ("--format", "yoochoose", "--against", "magic"), "--against magic: it is not among"),
        (SEVEN, ("--format", "yoochoose", "--against", "blend", "--freshness"), "do not go together"),
        (
            SEVEN,
            ("--format", "yoochoose", "--interleave", "blend,counts", "--freshness"),
            "do not go together",
        ),
        (SEVEN, ("--format", "yoochoose", "--train", "nowhere"), "there is no file nowhere"),
        (SEVEN, ("--format", "yoochoose", "--served", "{"), "not JSON"),
        (SEVEN, ("--format", "yoochoose", "--served", '{"magic": 1}'), "knows no magic"),
        (SEVEN, ("--format", "yoochoose", "--served", '{"symmetry": "much"}'), "symmetry"),
        (SEVEN, ("--format", "yoochoose", "--served", '{"window": 0}'), "window must be at least 1"),
        (SEVEN, ("--format", "yoochoose", "--served", '{"symmetry": NaN}'), "symmetry"),
        (SEVEN, ("--format", "yoochoose", "--served", '{"item_half_life_s": 0}'), "half-life"),
        (SEVEN, ("--format", "yoochoose", "--served", '{"dim": 7}'), "multiple of 64"),
        (SEVEN, ("--format", "yoochoose", "--protocol", "leave-one-out", "--freshness"), "--freshness"),
        ("nonsense\nmore\n", ("--format", "jsonl"), "no line of clicks is jsonl: 2 bad, the first is line 1"),
        (b"\xff\xfe\x00\t\t\n", ("--format", "yoochoose"), "no line"),
        ("a\tx\t3\t10\n", ("--format", "movielens"), "no rating of 5"),
        (
            "SessionId\tItemId\tTime\na\tx\t1\n",
            ("--format", "yoochoose"),
            "none of its 1 events can be scored",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    text: str | bytes | None, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        written(text)
    assert said in refused(capsys, "clicks", *arguments)


def test_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("clicks").mkdir()
    assert "cannot read clicks" in refused(capsys, "clicks", "--format", "jsonl")


@pytest.mark.parametrize("freshness", [[], ["--freshness"]])
def test_the_picture_is_a_png_of_its_size(freshness: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    arguments = ["--format", "yoochoose", "--plot", "curve.png", *freshness]
    evaluated(capsys, written(chain(300)), *arguments)

    with image.open("curve.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1080, 660))
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 8  # axes, and lines of several colours
    assert "cannot write" in refused(
        capsys, "clicks", "--format", "yoochoose", "--plot", "no/such/folder.png", *freshness
    )


def test_other_settings_of_the_served_layers_change_their_rows_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(chain(300))
    arguments = (path, "--format", "yoochoose", "--top", "1")
    one = by_layer(evaluated(capsys, *arguments))
    other = by_layer(
        evaluated(
            capsys,
            *arguments,
            "--served",
            '{"item_half_life_s": Infinity, "rank": {"counts": false, "taste": 0}}',
        )
    )

    assert one["last-item"] == other["last-item"]
    assert one["blend"]["recall_at_k"] != other["blend"]["recall_at_k"]
    assert other["blend"]["recall_at_k"] == other["trending"]["recall_at_k"]


def test_ratings_are_estimated_where_they_differ(capsys: pytest.CaptureFixture[str]) -> None:
    """Scored of `all` are y (5) and w (3) of a and y (5) of b. The means before them: 5, 5, 18 / 4."""
    path = written(MOVIELENS["u.data"])
    found = evaluated(capsys, path, "--format", "movielens", "--protocol", "all")
    rows = {row["estimate"]: row for row in found["ratings"]}

    assert rows["mean"]["rmse"] == pytest.approx(math.sqrt((0 + 4 + 0.5**2) / 3), abs=1e-6)
    assert rows["user-nearest"]["answered"] == pytest.approx(1 / 3, abs=1e-6)  # y of b, by a: 5
    assert rows["user-nearest"]["rmse"] == pytest.approx(math.sqrt(4 / 3), abs=1e-6)
    assert "ratings" not in evaluated(capsys, path, "--format", "movielens")  # all are 5
    assert run(["evaluate", "clicks", path, "--format", "movielens", "--protocol", "all"]) == 0
    assert "user-cosine by raters" in capsys.readouterr().out


def test_ratings_of_zero_are_not_estimated(capsys: pytest.CaptureFixture[str]) -> None:
    path = written("a\tx\t5\t10\na\ty\t0\t20\nb\tx\t1\t30\nb\ty\t5\t40\n")
    found = evaluated(capsys, path, "--format", "movielens", "--protocol", "all")

    assert "ratings" not in found
    assert found["notes"] == ["ratings are not estimated: they are not all above 0 and up to 255"]


def test_content_by_a_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    """After x, y of the same class stands before w, of which the catalogue says nothing."""
    catalogue = written(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\nx\tA\t1995\tWar\ny\tB\t1996\tWar\n",
        "items",
    )
    arguments = (
        written(MOVIELENS["u.data"]),
        "--format",
        "movielens",
        "--protocol",
        "all",
        "--layers",
        "content",
    )
    found = evaluated(capsys, *arguments, "--catalogue", catalogue)

    assert [row["layer"] for row in found["rows"]] == ["content"]
    assert found["rows"][0]["mpr"] == 0  # y, then w alone, then y
    assert found["notes"] == ["items says nothing of 1 items"]
    assert "needs --catalogue FILE" in refused(capsys, *arguments)
    assert "there is no file nowhere" in refused(capsys, *arguments, "--catalogue", "nowhere")


def test_the_list_without_stages_is_the_blend_and_diversity_changes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [f"{u}\t{i}\t5\t{100 * n}" for n, (u, i) in enumerate(random_pairs(3, 400, users=15, items=25))]
    path = written("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(lines) + "\n")
    arguments = (path, "--format", "movielens", "--top", "5", "--layers", "blend,list", "--list")
    same = by_layer(evaluated(capsys, *arguments, "{}"))
    other = by_layer(evaluated(capsys, *arguments, '{"diversity": "mmr", "theta": 0.2}'))

    assert {**same["list"], "layer": "blend"} == same["blend"] == other["blend"]
    assert other["list"]["intra_list_distance"] > same["list"]["intra_list_distance"]
    assert other["list"]["ndcg_at_k"] != same["list"]["ndcg_at_k"]


def test_differences_are_taken_event_by_event_from_the_list_without_its_diversity(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [f"{u}\t{i}\t5\t{100 * n}" for n, (u, i) in enumerate(random_pairs(3, 400, users=15, items=25))]
    path = written("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(lines) + "\n")
    arguments = (path, "--format", "movielens", "--top", "5", "--layers", "blend,list,list-plain")
    arguments = (*arguments, "--list", '{"diversity": "mmr", "theta": 0.2}', "--against", "list-plain")
    found = evaluated(capsys, *arguments)
    rows, apart = by_layer(found), by_layer(found["against"])
    assert {**rows["list-plain"], "layer": "blend"} == rows["blend"]
    assert set(apart) == {"blend", "list"} and found["against"]["row"] == "list-plain"
    assert all(value == 0 for name, figures in apart["blend"].items() if name != "layer" for value in figures)
    for name in ("recall_at_k", "ndcg_at_k", "intra_list_distance"):
        value, low, high = apart["list"][name]
        assert value == pytest.approx(rows["list"][name] - rows["list-plain"][name], abs=2e-6)
        assert low < value < high
    assert run(["evaluate", "clicks", *arguments]) == 0
    assert "against list-plain, the differences event by event:" in capsys.readouterr().out
    plain = (*arguments[:-3], "{}", "--against", "list-plain")
    assert "--layers list-plain needs" in refused(capsys, *plain)


def test_diversity_by_the_topics_of_a_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = random_pairs(3, 400, users=15, items=25)
    lines = [f"{u}\t{i}\t5\t{100 * n}" for n, (u, i) in enumerate(pairs)]
    path = written("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(lines) + "\n")
    items = [json.dumps({"item": f"i{n}", "topics": [f"t{n % 4}"]}) for n in range(25)]
    catalogue = written("\n".join(items), "items")
    arguments = (
        path,
        "--format",
        "movielens",
        "--top",
        "4",
        "--catalogue",
        catalogue,
        "--layers",
        "blend,list",
    )
    found = evaluated(capsys, *arguments, "--list", '{"diversity": "mmr", "theta": 0.1, "alike": "topics"}')
    rows = by_layer(found)

    assert rows["list"]["topic_distance"] > 0.98 > rows["blend"]["topic_distance"]  # 1: each of another topic
    assert run(["evaluate", "clicks", *arguments, "--list", "{}"]) == 0
    assert "by topics" in capsys.readouterr().out


def test_the_learnt_blend_looks_at_topics_and_years_of_a_catalogue(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every reader stays in one decade; in what order is chance."""
    rng = np.random.default_rng(5)
    ways = {u: [3 * int(i) + u % 3 for i in rng.permutation(12)] for u in range(18)}
    lines = [f"u{u}\ti{ways[u][n]}\t5\t{100 * (18 * n + u)}" for n in range(9) for u in range(18)]
    path = written("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(lines) + "\n")
    arguments = (path, "--format", "movielens", "--protocol", "all", "--top", "2", "--layers", "blend-online")

    def said(of: str) -> float:
        items = [f"i{n}\tT\t{1950 + n % 3 * 10 if of != 'nothing' else 'unkonwn'}\t" for n in range(36)]
        head = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        found = evaluated(capsys, *arguments, "--catalogue", written(head + "\n".join(items) + "\n", of))
        return float(found["rows"][0]["mrr_at_k"])

    without = float(evaluated(capsys, *arguments)["rows"][0]["mrr_at_k"])
    assert said("years") != without == said("nothing")


def test_interleaved_rows_are_preferred_by_what_they_list(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--format", "yoochoose", "--new-only", "--layers", "popularity,last-item,counts")
    path = written(chain(400))
    found = evaluated(capsys, path, *arguments, "--top", "1", "--interleave", "last-item,popularity")[
        "interleaved"
    ]

    # with one place the coin says whose it is; q follows p, so that only last-item is ever right
    assert (found["of"], found["over"], found["preference"]) == ("last-item", "popularity", 0.5)
    assert found["wins"]["popularity"] == 0 and 55 < found["wins"]["last-item"] < 105
    equal = evaluated(capsys, path, *arguments, "--top", "5", "--interleave", "last-item,counts")[
        "interleaved"
    ]
    assert equal["low"] < 0 < equal["high"]
    assert run(["evaluate", "clicks", path, *arguments, "--interleave", "counts,popularity"]) == 0
    assert "counts and popularity interleaved (team draft)" in capsys.readouterr().out
