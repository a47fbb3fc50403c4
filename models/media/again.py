"""What is made of a long recording a second time, when its turn comes, so that little of it is ever held.

A recording of hours has hundreds of windows, and the device takes a few at a time. To keep them all would take a
megabyte each; to decode the recording once more takes a five-hundredth of its length.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# Asked for nearly in order: a device that works on several at once is never this far ahead of itself.
_HELD = 24
_AHEAD = 8


class Again(Generic[T]):
    """Items of a sequence by their number, made again from the first on. Any thread.

    Asked in order, each is made once, and the next few are made by `helper` before they are asked for. An item that
    is no longer held costs a new beginning.
    """

    def __init__(self, begin: Callable[[], Iterator[T]], helper: Executor) -> None:
        """`begin` gives the sequence anew, always the same."""
        self._begin = begin
        self._helper = helper
        self._lock = threading.Lock()
        self._items: Iterator[T] | None = None
        self._next = 0
        self._held: OrderedDict[int, T] = OrderedDict()

    def __getitem__(self, number: int) -> T:
        """Raises IndexError beyond the end, and what making an item raises."""
        with self._lock:
            if number not in self._held and number < self._next:
                self._items = None
            self._make(number)
            found = self._held[number]
        self._helper.submit(self._make_ahead, number + _AHEAD)
        return found

    def item(self, number: int, made: T | None = None) -> "Item[T]":
        """One of them, to be had now (`made`) or when it is asked for."""
        return Item(self, number, made)

    def _make_ahead(self, number: int) -> None:
        with self._lock, suppress(Exception):  # whoever asks for it makes it again, and sees
            self._make(number)

    def _make(self, number: int) -> None:
        """All up to this one."""
        if self._items is None:
            self._items, self._next = self._begin(), 0
            self._held.clear()
        while self._next <= number:
            try:
                self._held[self._next] = next(self._items)
            except StopIteration:
                raise IndexError(number) from None
            except BaseException:
                self._items = None
                raise
            self._next += 1
            if len(self._held) > _HELD:
                self._held.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One of a sequence."""

    _of: Again[T]
    _number: int
    _made: T | None

    def get(self) -> T:
        """Makes it where it was not yet; raises as `Again` does."""
        return self._of[self._number] if self._made is None else self._made

    @property
    def nbytes(self) -> int:
        """Memory that it holds while it waits."""
        return getattr(self._made, "nbytes", 0)
