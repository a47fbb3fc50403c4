"""What is under way, for whom, and how it ends: each request once, each call that waits for it told. One event loop."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from models.errors import BadInput, ModelError
from models.inference.batching import Lane
from models.types import Outcome, Payload
from streams.inference.answers import Answer, How
from streams.inference.crew import Ended
from streams.inference.failures import InferenceFailed, InferenceInterrupted, again, same
from streams.inference.repeats import Repeats
from streams.inference.request import Call, Key, Request
from streams.inference.rooms import Served
from streams.inference.totals import Observer

_MOST_DEATHS = 2

Put = Callable[[Request], None]


class Desk:
    """Of a service: all tasks."""

    def __init__(
        self,
        tasks: Mapping[str, Served],
        kept_bytes: int,
        observer: Observer | None,
        clock: Callable[[], float],
        put: Put,
    ) -> None:
        """`put` hands a giant to the device when its turn has come."""
        self._tasks = tasks
        self._observer = observer
        self._clock = clock
        self._put = put
        self._repeats = Repeats(kept_bytes)
        self._open: set[Request] = set()  # all that was let in, so that all can be ended
        self.idle = asyncio.Event()
        self.idle.set()

    def __len__(self) -> int:
        """Requests under way."""
        return len(self._open)

    def known(self, served: Served, key: Key) -> Answer | Request | None:
        """The answer for this content, or the request that will have it."""
        found = self._repeats.find(key)
        return self._repeated(key[0], served, found, "kept") if isinstance(found, Outcome) else found

    def take_in(
        self,
        served: Served,
        keys: Sequence[Key],
        payloads: Sequence[Payload],
        lane: Lane,
        submitted_s: float,
        call: Call,
        place: int,
    ) -> list[Request]:
        """Have the call wait for these, the first of them at its `place`. Returns the new requests for what was not
        known; room for all was taken."""
        task = served.task
        assert task is not None  # busy since it was let in, and what is busy stays
        now_s, find, begin, begun = self._clock(), self._repeats.find, self._repeats.begin, []
        for key, payload in zip(keys, payloads, strict=True):
            found = find(key)
            if found is None:
                size_bytes = len(payload.data)
                new = Request(
                    task, key[0], payload, lane, submitted_s, now_s, key, [(call, place)], size_bytes
                )
                begin(new)
                begun.append(new)
            elif isinstance(found, Outcome):
                call.wait_for(place, self._repeated(key[0], served, found, "kept"))
            else:
                call.wait_for(place, found)
            place += 1
        if begun:
            self._open.update(begun)
            self.idle.clear()
            call.requests += begun
            call.missing += len(begun)
        return begun

    def leave(self, call: Call) -> None:
        """Its caller goes away, and leaves the others alone."""
        for request in call.requests:
            request.waiters = [waiter for waiter in request.waiters if waiter[0] is not call]
            # The last one to go; its units still take up room in the planner or on the device.
            request.abandoned = request.abandoned or not request.waiters

    def grown(self, requests: Sequence[Request]) -> None:
        """They are decoded, and take more room; giants wait for their turn."""
        for request in requests:
            if request in self._open:
                served = self._tasks[request.name]
                served.grow(request)
                if request.is_giant:
                    served.place_giant(request, self._put)

    def ended(self, ended: Iterable[Ended]) -> None:
        """Answers and errors, each to all who wait for it."""
        now_s, under_way = self._clock(), self._open
        left: defaultdict[str, list[Request]] = defaultdict(list)
        for request, result in ended:
            if request not in under_way:  # ended before, by a failure
                continue
            under_way.remove(request)
            name = request.name
            left[name].append(request)
            if isinstance(result, Outcome):
                self._repeats.end(request, result)
                self._succeeded(self._tasks[name], request, result, now_s)
            else:
                self._repeats.end(request, None)
                if result is not None:
                    self._failed(self._tasks[name], request, result)
            request.waiters.clear()  # which lead back to it: its payload and model would stay in memory for long
        for name, requests in left.items():
            self._tasks[name].leave(requests, self._put)
        if not self._open:
            self.idle.set()

    def end_all(self, failure: InferenceFailed) -> None:
        """Nothing that is under way will be answered."""
        for served in self._tasks.values():
            served.admission.fail(failure)
            served.giants.clear()
        calls = {call: None for request in self._open for call, _ in request.waiters}
        for call in calls:
            call.fail(again(failure))
        for request in self._open:
            request.waiters = []
        self.ended([(request, None) for request in self._open])

    def begin_again(self, requests: Iterable[Request]) -> list[Request]:
        """The device thread died with these on the device: new ones in their place, to be prepared once more. Those
        with which it had died before get InferenceInterrupted instead."""
        anew: list[Request] = []
        for old in requests:
            if old not in self._open:
                continue
            if old.deaths + 1 >= _MOST_DEATHS:
                self.ended([(old, InferenceInterrupted("the inference device died twice on this payload"))])
                continue
            served = self._tasks[old.name]
            fresh = self._fresh(served, old)
            self.ended([(old, None)])
            anew.append(fresh)
        return anew

    def _fresh(self, served: Served, old: Request) -> Request:
        """In the place of an old one, with its waiters."""
        size_bytes = len(old.payload.data)
        served.admission.resize(1, size_bytes)  # the old one's is given back when it ends
        assert served.task is not None
        fresh = Request(
            served.task,
            old.name,
            old.payload,
            old.lane,
            old.submitted_s,
            self._clock(),
            old.key,
            old.waiters,
            size_bytes,
        )
        old.waiters, old.abandoned = [], True
        fresh.abandoned = not fresh.waiters
        fresh.deaths = old.deaths + 1
        for call, _ in fresh.waiters:
            call.requests.append(fresh)
        self._open.add(fresh)
        self._repeats.begin(fresh)
        self.idle.clear()
        return fresh

    def _repeated(self, task: str, served: Served, outcome: Outcome, how: How) -> Answer:
        served.totals.joined += how == "joined"
        served.totals.kept += how == "kept"
        if self._observer is not None:
            self._observer.repeated(task, how)
        return Answer(outcome, repeated=how)

    def _succeeded(self, served: Served, request: Request, outcome: Outcome, now_s: float) -> None:
        deadline_s = request.lane.deadline_s
        if deadline_s is not None and now_s - request.submitted_s > deadline_s:
            served.totals.late += 1
            if self._observer is not None:
                self._observer.late(request.name)
        answer: Answer | None = request.answer(outcome, now_s)
        for call, place in request.waiters:
            call.tell(place, answer or self._repeated(request.name, served, outcome, "joined"))
            answer = None

    def _failed(self, served: Served, request: Request, error: BaseException) -> None:
        if isinstance(error, ModelError):
            served.totals.failed += 1
            if self._observer is not None:
                reason = error.reason if isinstance(error, BadInput) else "out_of_memory"
                self._observer.failed(request.name, reason)
        for call, place in request.waiters:
            if isinstance(error, ModelError | InferenceInterrupted):
                call.tell(place, error)
            else:  # a bug, or the end of the thread that decoded it
                call.fail(error if isinstance(error, Exception) else InferenceFailed(repr(error)))
            error = same(error)
