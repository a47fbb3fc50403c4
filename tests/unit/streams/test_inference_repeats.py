"""The same content twice, long payloads beside short ones, deadlines, and where the time went."""

import asyncio
import time

import pytest

from models.errors import BadInput, DeviceLost
from models.inference.batching import Lane
from models.types import Finding, Outcome, Payload
from shouting import Ears, Shouter, held, run, said, service, started, text, until, waiting
from streams.inference.failures import InferenceFailed
from streams.inference.limits import InferenceLimits
from streams.inference.repeats import Repeats, key_of
from streams.inference.request import UNITS_AT_ONCE, Key, Request


def test_what_is_in_flight_is_joined_and_what_was_answered_is_kept() -> None:
    async def main() -> None:
        task, ears = Shouter(), Ears()
        made = await started(service(shout=task, observer=ears))
        first = await held(task, made, "same words")
        others = [asyncio.create_task(made.submit("shout", text("same words"))) for _ in range(5)]
        await asyncio.sleep(0.05)
        task.hold.set()
        answers = await asyncio.gather(first, *others)
        assert [said(answer) for answer in answers] == ["SAME WORDS"] * 6
        assert [answer.repeated for answer in answers] == [None, *["joined"] * 5]
        again = await made.submit("shout", text("same words"))
        assert (said(again), again.repeated) == ("SAME WORDS", "kept")
        assert task.ran.count(b"same") == 1
        totals = made.totals["shout"]
        assert (totals.joined, totals.kept, totals.units) == (5, 1, 2)
        assert ears.repeats == [("shout", "joined")] * 5 + [("shout", "kept")]
        await made.stop(5)
        assert not made._desk._open

    run(main())


def test_language_media_type_and_task_tell_contents_apart() -> None:
    async def main() -> None:
        task, other = Shouter(), Shouter()
        made = await started(service(shout=task, other=other), "shout", "other")
        await made.submit("shout", text("words"))
        for payload in (Payload("text/plain", b"words", "de"), Payload("text/html", b"words")):
            assert (await made.submit("shout", payload)).repeated is None
        assert (await made.submit("other", text("words"))).repeated is None
        assert (task.ran.count(b"words"), other.ran.count(b"words")) == (3, 1)
        await made.stop(5)

    run(main())


def test_when_the_first_goes_away_one_who_joined_does_it() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        await held(task, made, "blocks")
        first = asyncio.create_task(made.submit("shout", text("wanted")))
        await until(lambda: waiting(made) == 1)
        others = [asyncio.create_task(made.submit("shout", text("wanted"))) for _ in range(3)]
        await asyncio.sleep(0.05)
        others[0].cancel()  # nobody minds
        first.cancel()
        await asyncio.gather(first, others[0], return_exceptions=True)
        task.hold.set()
        assert [said(answer) for answer in await asyncio.gather(*others[1:])] == ["WANTED"] * 2
        assert task.ran.count(b"wanted") == 1
        await made.stop(5)
        assert not made._desk._repeats._running

    run(main())


def test_errors_are_shared_by_those_who_joined_and_not_kept() -> None:
    async def main() -> None:
        task, ears = Shouter(), Ears()
        made = await started(service(shout=task, observer=ears))
        blocked = await held(task, made, "blocks")
        submitted = [asyncio.create_task(made.submit("shout", text("poison"))) for _ in range(3)]
        await until(lambda: waiting(made) == 1)
        task.hold.set()
        results = await asyncio.gather(*submitted, return_exceptions=True)
        await blocked
        assert [type(result) for result in results] == [BadInput] * 3
        assert {result.reason for result in results if isinstance(result, BadInput)} == {"poison"}
        assert (
            len({id(result) for result in results}) == 3
        )  # each its own: a traceback grows where it is raised
        assert ears.failures == [("shout", "poison")]
        with pytest.raises(BadInput):
            await made.submit("shout", text("poison"))
        assert ears.failures == [("shout", "poison")] * 2  # tried again, not remembered
        await made.stop(5)

    run(main())


def test_those_who_joined_hear_of_the_devices_death() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        first = await held(task, made, "same")
        others = [asyncio.create_task(made.submit("shout", text("same"))) for _ in range(3)]
        await asyncio.sleep(0.05)
        task.broken = DeviceLost("gone")
        task.hold.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(result) for result in results] == [InferenceFailed] * 4
        await made.stop(1)

    run(main())


def test_what_is_kept_is_bounded_in_bytes_and_the_least_used_goes() -> None:
    made = Repeats(limit_bytes=10_000)

    def keep(words: str, value: str) -> None:
        key = key_of("t", text(words))
        one = request(key)
        made.begin(one)
        made.end(one, Outcome((Finding("t", value),)))

    for n in range(1000):
        keep(f"number {n}", f"value {n}")
        assert made.find(key_of("t", text("number 0"))) is not None  # used again and again: it stays
        assert made.bytes <= 10_000
    assert 5 < len(made) < 25
    assert made.find(key_of("t", text("number 500"))) is None
    keep("huge", "x" * 100_000)
    assert made.find(key_of("t", text("huge"))) is None and len(made) > 5  # it did not push the others out


def request(key: Key) -> Request:
    return Request(Shouter(), "t", text("x"), Lane(), 0.0, 0.0, key, [], 1)


def test_one_that_nobody_wants_any_more_is_not_joined_and_its_end_is_not_the_next_ones() -> None:
    made, key = Repeats(1000), key_of("t", text("x"))
    first, second = request(key), request(key)
    made.begin(first)
    first.abandoned = True
    assert made.find(key) is None
    made.begin(second)
    made.end(first, None)
    assert made.find(key) is second


def test_nothing_is_kept_with_a_bound_of_zero() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=InferenceLimits(kept_bytes=0)))
        for _ in range(3):
            assert (await made.submit("shout", text("same"))).repeated is None
        assert task.ran.count(b"same") == 3
        await made.stop(5)

    run(main())


def test_large_contents_are_hashed_off_the_loop_and_labelled_once_too() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        large = "x" * 200_000
        answers = await asyncio.gather(*(made.submit("shout", text(large)) for _ in range(4)))
        # joined or kept: one whose hash takes long finds the answer there already
        assert [answer.repeated for answer in answers].count(None) == 1
        assert task.ran.count(large.encode()) == 1
        await made.stop(5)

    run(main())


def test_a_long_payload_shares_the_device_with_its_neighbours() -> None:
    """Two hours of windows are in front of the queue; those who come later do not wait for its end."""

    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        blocked = await held(task, made, "blocks")
        long = asyncio.create_task(made.submit("shout", text(" ".join(f"w{n:03d}" for n in range(240)))))
        await until(lambda: waiting(made) == UNITS_AT_ONCE)  # not all of it
        short = [asyncio.create_task(made.submit("shout", text(f"n{n:03d}"))) for n in range(8)]
        await until(lambda: waiting(made) == UNITS_AT_ONCE + 8)
        task.hold.set()
        await asyncio.gather(*short, blocked)
        before = sum(word.startswith(b"w") for word in task.ran[: task.ran.index(b"n007")])
        assert before <= 3 * UNITS_AT_ONCE
        assert said(await long) == " ".join(f"W{n:03d}" for n in range(240))
        await made.stop(5)
        assert not made._desk._open

    run(main())


def test_a_giant_takes_no_room_from_its_neighbours_and_giants_take_turns() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=InferenceLimits(units_in_flight=30)))
        blocked = await held(task, made, "blocks")
        words = [" ".join(f"{kind}{n:02d}" for n in range(60)) for kind in "ab"]
        giants = [asyncio.create_task(made.submit("shout", text(words[0])))]
        await until(lambda: waiting(made) == UNITS_AT_ONCE)
        assert made._tasks["shout"].admission.units == 1  # of the one that blocks alone
        assert not made.saturated
        giants.append(asyncio.create_task(made.submit("shout", text(words[1]))))
        await until(
            lambda: made._tasks["shout"].admission.units == 61
        )  # waits, and holds others up meanwhile
        task.hold.set()
        assert [said(answer) for answer in await asyncio.gather(*giants)] == [word.upper() for word in words]
        await blocked
        await made.stop(5)
        assert made._tasks["shout"].admission.units == 0
        assert made._tasks["shout"].giant is None

    run(main())


def test_a_long_payload_that_nobody_wants_any_more_is_not_run_to_its_end() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        blocked = await held(task, made, "blocks")
        long = asyncio.create_task(made.submit("shout", text(" ".join(f"w{n:03d}" for n in range(200)))))
        await until(lambda: waiting(made) == UNITS_AT_ONCE)
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
        task.hold.set()
        await blocked
        await made.stop(5)
        assert sum(word.startswith(b"w") for word in task.ran) == 0
        assert (len(made._desk._open), made._tasks["shout"].giant) == (0, None)

    run(main())


def test_the_stages_add_up_to_the_time_that_it_took() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        blocked = await held(task, made, "blocks")
        before_s = time.monotonic()
        queued = asyncio.create_task(made.submit("shout", text("one two three four five six")))
        await until(lambda: waiting(made) == 6)
        await asyncio.sleep(0.5)
        task.hold.set()
        answer = await queued
        took_s = time.monotonic() - before_s
        await blocked
        stages = answer.stages
        parts = [stages.room_s, stages.prepare_s, stages.queue_s, stages.device_s, stages.finish_s]
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(took_s, abs=0.25)  # what a busy machine adds between them
        assert stages.queue_s >= 0.5  # the batch before it was held that long
        await made.stop(5)

    run(main())


def test_what_is_late_is_answered_all_the_same_and_counted() -> None:
    async def main() -> None:
        task, ears = Shouter(), Ears()
        made = await started(service(shout=task, observer=ears))
        blocked = await held(task, made, "blocks")
        late = asyncio.create_task(made.submit("shout", text("late"), Lane(deadline_s=0.02)))
        early = asyncio.create_task(made.submit("shout", text("early"), Lane(deadline_s=60)))
        await until(lambda: waiting(made) == 2)
        await asyncio.sleep(0.03)
        task.hold.set()
        assert [said(answer) for answer in await asyncio.gather(late, early, blocked)] == [
            "LATE",
            "EARLY",
            "BLOCKS",
        ]
        assert (ears.lates, made.totals["shout"].late) == (["shout"], 1)
        assert all(batch.drain_s >= 0 for batch in ears.batches)
        await made.stop(5)

    run(main())
