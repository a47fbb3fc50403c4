"""The few threads that decode payloads and finish answers, so that neither the loop nor the device waits for it.

Small payloads are taken several at a time: handing one over costs more than preparing it. Large ones are taken alone,
so that a long recording holds no text up. What the device has done is finished before anything new is prepared.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from models.inference.steps import finish, prepare
from models.types import Outcome, Task
from streams.inference.device import BatchReport
from streams.inference.request import Request

_TOGETHER = 32
_AT_LEAST = 8  # fewer are not worth sharing
_SMALL_BYTES = 4096

Ended = tuple[Request, Outcome | BaseException | None]
"""A request and its answer or error; None: nobody wants it any more."""


class Crew:
    """Start once, hand over at will from any thread, stop."""

    def __init__(
        self,
        threads: int,
        prepared: Callable[[list[Request]], None],
        ended: Callable[[list[Ended], BatchReport | None], None],
    ) -> None:
        """Both are called on the crew's threads; `prepared` gets requests with at least one unit each, `ended` the
        report of the batch that they were in, if any was."""
        self._threads = threads
        self._on_prepared = prepared
        self._on_ended = ended
        # Under `_wake`:
        self._wake = threading.Condition()
        self._to_prepare: deque[Request] = deque()
        self._to_finish: deque[tuple[Task, list[Request], BatchReport | None]] = deque()
        self._idle = 0  # threads that wait and have not been called
        self._stopping = False

    def start(self) -> None:
        """Begin."""
        for number in range(self._threads):
            # Daemons: a decoder that hangs must not keep the worker from ending.
            threading.Thread(target=self._work, name=f"inference-prepare-{number}", daemon=True).start()

    def prepare(self, requests: Sequence[Request]) -> None:
        """Decode them when there is a hand free."""
        with self._wake:
            self._to_prepare.extend(requests)
            self._call(-(-len(requests) // _TOGETHER))

    def finish(self, task: Task, requests: list[Request], batch: BatchReport | None) -> None:
        """Turn outputs into answers."""
        with self._wake:
            self._to_finish.append((task, requests, batch))
            self._call(1)

    def stop(self) -> None:
        """End after what is under way; the rest is left undone."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def _call(self, most: int) -> None:
        """Each at most once: a wake-up is a system call."""
        called = min(self._idle, most)
        if called:
            self._idle -= called
            self._wake.notify(called)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            task, requests, batch = job
            if task is None:
                self._prepare_all(requests)
            else:
                self._on_ended([(request, _finished(task, request)) for request in requests], batch)
            del job, task, requests  # or the last one's data and model would stay in memory until the next

    def _next(self) -> tuple[Task | None, list[Request], BatchReport | None] | None:
        with self._wake:
            while not self._stopping:
                if self._to_finish:
                    return self._to_finish.popleft()
                if self._to_prepare:
                    return None, self._some(), None
                self._idle += 1
                self._wake.wait()
        return None

    def _some(self) -> list[Request]:
        """One, or a share of the small ones in front."""
        waiting = self._to_prepare
        most = min(_TOGETHER, len(waiting), max(_AT_LEAST, -(-len(waiting) // self._threads)))
        taken = [waiting.popleft()]
        small = _is_small(taken[0])
        while small and len(taken) < most and _is_small(waiting[0]):
            taken.append(waiting.popleft())
        return taken

    def _prepare_all(self, requests: list[Request]) -> None:
        ready: list[Request] = []
        ended: list[Ended] = []
        for request in requests:
            if request.abandoned:
                ended.append((request, None))
                continue
            try:
                request.got(prepare(request.task, request.payload))
            except BaseException as error:  # whatever it was, the one who waits must hear of it
                ended.append((request, error))
                continue
            if request.missing:
                ready.append(request)
            else:  # silence, say: nothing to run
                ended.append((request, _finished(request.task, request)))
        if ended:
            self._on_ended(ended, None)
        if ready:
            self._on_prepared(ready)
        # An error's traceback leads to this frame: it must not lead back, or a chunk would stay in memory for long.
        del requests, request, ready, ended


def _is_small(request: Request) -> bool:
    return len(request.payload.data) <= _SMALL_BYTES


def _finished(task: Task, request: Request) -> Outcome | BaseException | None:
    if request.abandoned:
        return None
    try:
        return finish(task, request.prepared, request.outputs)
    except BaseException as error:  # as above
        request.outputs.clear()  # it may be among them, and would lead to itself
        return error
