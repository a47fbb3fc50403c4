"""The demo's feed: the same for the same seed, with tastes that drift, from data that may be given away."""

import collections
import itertools

import msgspec

from models.media.sniff import sniff
from streams.demo.board import Board, plain_lines
from streams.demo.feed import DATA, Crowd, catalogue, media
from streams.events import Because, Click, Item, Label, ModelName, Reason, Recommendation, Recommended

AT = 1_700_000_000_000


def crowd(seed: int, readers: int = 30) -> Crowd:
    return Crowd(catalogue(AT), readers, seed)


def test_the_same_seed_gives_the_same_clicks_and_another_seed_others() -> None:
    def first(seed: int) -> list[Click]:
        people = crowd(seed)
        return [people.click(AT + n) for n in range(500)]

    assert first(3) == first(3)
    assert first(3) != first(4)


def test_readers_like_what_is_in_their_topics_and_skip_most_of_the_rest() -> None:
    people = crowd(1)
    inside, outside = collections.Counter[str](), collections.Counter[str]()
    for n in range(4000):
        click = people.click(AT + n)
        tastes = next(reader.tastes for reader in people.readers if reader.user == click.user)
        (inside if click.item.rsplit("-", 1)[0] in tastes else outside)[click.kind] += 1

    assert inside.total() > 4 * outside.total()
    assert inside["skip"] < 0.1 * inside.total()
    assert outside["skip"] > 0.5 * outside.total()


def test_tastes_drift_so_that_topic_shares_change() -> None:
    people = crowd(2, readers=10)
    reader = people.readers[0]

    def shares() -> collections.Counter[str]:
        seen: collections.Counter[str] = collections.Counter()
        while seen.total() < 15:
            click = people.click(AT)
            if click.user == reader.user:
                seen[click.item.rsplit("-", 1)[0]] += 1
        return seen

    favourites = [shares().most_common(1)[0][0] for _ in range(12)]
    assert len(set(favourites)) >= 3


def test_ids_are_unique_and_times_are_the_callers() -> None:
    people = crowd(1)
    clicks = [people.click(AT + n) for n in range(1000)]

    assert len({click.id for click in clicks}) == 1000
    assert [click.at for click in clicks] == list(range(AT, AT + 1000))


def test_the_catalogue_is_whole_and_varied() -> None:
    items = catalogue(AT)
    topics = collections.Counter(topic for item in items for topic in item.topics)

    assert len(items) == len({item.item for item in items}) == len({item.title for item in items})
    assert len(topics) >= 6
    assert min(topics.values()) >= 15
    assert all(item.text and item.title and item.author for item in items)


def test_media_come_in_turn_and_are_what_they_say() -> None:
    events = list(itertools.islice(media(1), 72))
    families = collections.Counter(event.media_type.partition("/")[0] for event in events)

    assert families == {"text": 24, "audio": 24, "image": 24}
    assert len({event.asset for event in events}) == 72
    for event in events:
        if isinstance(event.payload, bytes):
            found = sniff(event.payload)
            assert found is not None
            assert found.family == event.media_type.partition("/")[0]
        else:
            assert event.text


def test_every_file_of_the_feed_is_named_with_its_licence_and_small() -> None:
    readme = (DATA / "README.md").read_text()
    files = [path for path in DATA.rglob("*") if path.is_file() and path.name != "README.md"]

    assert all(path.name in readme for path in files)
    assert sum(path.stat().st_size for path in files) < 3_000_000
    assert "CC BY-SA 4.0" in readme


def test_the_board_shows_lists_rates_and_labels() -> None:
    items = [Item("1", "a", AT, "First", topics=["chess"]), Item("2", "b", AT, "Second", topics=["music"])]
    board = Board(items, ["ada"])
    because = Because("clicks", 0, 0)
    board.tastes = {"ada": ("chess",)}
    board.sent = {"clicks": 0}
    board.snapshot(0.0)
    board.sent = {"clicks": 80}
    reasons = [Reason("popular", 0.3), Reason("after", 1.2, "b"), Reason("taste", -0.5)]  # one against it
    board.recommendation(Recommendation("r", "ada", AT, "m", [Recommended("a", 1.0, reasons)], because), 1.5)
    board.recommendation(Recommendation("r", "someone", AT, "m", [], because), 1.6)
    name = ModelName("tiny", "1", "float32", "0")
    board.label(Label("l", "clip/1", "transcribe", AT, name, "one two", because, {}), 1.7)
    board.metrics(
        [
            ("headrace_consumer_lag_records", {"agent": "clicks", "topic": "clicks", "partition": "0"}, 2.0),
            ("headrace_consumer_lag_records", {"agent": "clicks", "topic": "clicks", "partition": "1"}, 3.0),
            ("headrace_dead_letters_total", {"agent": "audio", "reason": "empty"}, 1.0),
        ]
    )
    shot = board.snapshot(2.0)

    assert shot["flows"]["clicks"] == {"records": 80, "per_s": 40.0}
    assert shot["lag"] == {"clicks": 5}
    assert shot["dead_letters"] == 1
    assert shot["first_list_s"] == 1.5
    assert shot["readers"][0]["list"][0] == {
        "item": "a",
        "title": "First",
        "topics": ["chess"],
        "why": "after “Second” 80%",
    }
    assert msgspec.json.decode(msgspec.json.encode(shot)) == shot
    lines = "\n".join(plain_lines(shot))
    assert "ada likes chess -> First" in lines
    assert "clip/1: transcribe one two" in lines
