"""What must be true after a run, from the logs of the inputs alone. Shares no code with the worker.

`readers` tells what the log of clicks says, `states` and `outputs` hold what the workers made of it against that.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from streams.verify.judgement import Event, Found, Judgement, Place, Record, Rules
from streams.verify.outputs import (
    Told,
    check_items,
    check_labels,
    check_lists,
    check_poison,
    check_receipts,
    check_transitions,
)
from streams.verify.readers import Log, event_of, left_of, read_clicks, without_heartbeats
from streams.verify.states import States, check_forgotten, check_states, standing
from streams.verify.weights import speaks

NOBODY: Mapping[str, int] = {}


def judge(found: Found, rules: Rules, replayed: States | None = None) -> Judgement:
    """Compare a run with a plain reading of its inputs, and its states with those of a replay, where given, byte for
    byte."""
    result = Judgement()
    logs = found.records
    log = read_clicks(logs["clicks"])
    _check_states(result, logs["taste-changelog"], log, rules, replayed)
    told = told_of(log, rules.ring)
    check_lists(result, logs["recommendations"], log, rules)
    must = Counter(cause for cause, _, _ in told)
    check_transitions(result, logs["transitions"], must, must + _parted(log, rules.ring), rules)
    check_items(result, logs["item-table"], told)
    check_poison(result, "clicks", log.plain, logs["clicks.dlt"], log.poison, rules, log.forgotten)
    _check_inputs(result, found, "clicks", log.plain)
    _count(result, found, log, rules)
    _check_privacy(result, found, log, rules)
    if rules.media:
        sent = without_heartbeats(logs["uploads"])
        _check_inputs(result, found, "uploads", sent)
        uploads, bad = _read(sent, {"id", "asset", "at", "media_type"})
        check_labels(result, logs["labels"], uploads, rules)
        check_poison(result, "uploads", sent, logs["uploads.dlt"], bad, rules, NOBODY)
    _check_offsets(result, found)
    return result


def told_of(log: Log, ring: int) -> Told:
    """What the item agent is told: of every life of every reader, since what items got from it stays."""
    told: Told = [(cause, event, 1) for cause, event in log.good.items()]
    for key, story in log.stories.items():
        for life in (*story.past, story.life):
            told += [((key[0], at), event, -1) for at, event in left_of(life, ring).taken]
    return [one for one in told if speaks(one[1]) or one[1]["kind"] == "impression"]


def _parted(log: Log, ring: int) -> Counter[Place]:
    """What undoes tell the item agent beside that: each item that the click which was taken back had led to."""
    found: Counter[Place] = Counter()
    for key, story in log.stories.items():
        for life in (*story.past, story.life):
            found.update((key[0], at) for at, _ in left_of(life, ring).parted)
    return found


def _check_states(
    result: Judgement, changelog: Sequence[Record], log: Log, rules: Rules, replayed: States | None
) -> None:
    rows = standing(changelog, log.stories)
    check_states(result, rows, log.stories, rules)
    check_forgotten(result, changelog, log.stories)
    if replayed is not None:
        other = sum(rows.get(key) != state for key, state in replayed.items())
        result.note("states other than a clean replay's", 0, other)


def _count(result: Judgement, found: Found, log: Log, rules: Rules) -> None:
    """Every click that was sent counts, is a duplicate, is dropped or is none."""
    counted = len(log.good) + log.twice + log.dropped + len(log.poison)
    result.note("clicks that count", len(found.sent["clicks"]), counted)
    lives = [life for story in log.stories.values() for life in (*story.past, story.life)]
    taken = sum(len(left_of(life, rules.ring).taken) for life in lives)
    for what, count in (
        ("clicks taken back", taken),
        ("clicks sent twice", log.twice),
        ("clicks of readers who were forgotten", log.dropped),
    ):
        result.expected[what] = result.found[what] = count


def _check_privacy(result: Judgement, found: Found, log: Log, rules: Rules) -> None:
    logs = found.records
    sent = [
        record for record in without_heartbeats(logs["privacy"]) if record.value is not None
    ]  # the others say what was done
    _check_inputs(result, found, "privacy", sent)
    orders, bad = _read(sent, {"id", "user", "kind", "at"})
    check_receipts(result, logs["privacy-receipts"], {one["id"]: one["kind"] for one in orders.values()}, log)
    unknown = dict.fromkeys(log.forgotten, -1)  # when their letters here went, the log of clicks does not say
    check_poison(result, "privacy", sent, logs["privacy.dlt"], bad, rules, unknown)


def _read(log: Sequence[Record], fields: set[str]) -> tuple[dict[Place, Event], dict[Place, str]]:
    """Good records, and the keys of those that are no event."""
    good: dict[Place, Event] = {}
    poison: dict[Place, str] = {}
    for record in log:
        event = event_of(record, fields)
        if event is not None:
            good[record.partition, record.offset] = event
        else:
            poison[record.partition, record.offset] = (record.key or b"").decode()
    return good, poison


def _check_inputs(result: Judgement, found: Found, topic: str, log: Sequence[Record]) -> None:
    """What was sent, and acknowledged, is what lies in the log."""
    values = Counter(record.value or b"" for record in log)
    result.note(f"{topic} sent", len(found.sent[topic]), values.total())
    if values != Counter(found.sent[topic]):
        result.differ(f"the records of {topic} are not those that were sent")


def _check_offsets(result: Judgement, found: Found) -> None:
    """Everything up to the last record that was sent is committed, and nothing beyond the log (a heartbeat may be the
    last in it)."""
    for key, end in sorted(found.ends.items()):
        after = max((r.offset + 1 for r in found.records[key[0]] if r.partition == key[1]), default=end)
        if end and not end <= found.committed.get(key, -1) <= max(after, end):
            result.differ(f"committed {found.committed.get(key)} of {key[0]}[{key[1]}], it ends at {end}")
