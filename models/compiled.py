"""Loops over numbers as machine code: plain Python over arrays and numbers, compiled by Numba, one signature each.

For what NumPy can only say with many passes, or with many small calls for a small group. Floating point is that of the
order in which it is written (no `fastmath`), so that results do not depend on the machine. Other types than those of
the signature raise TypeError, instead of a second compilation while records wait.

Machine code is kept beside the source, or in the user's cache where that folder cannot be written (`NUMBA_CACHE_DIR`
names another; where nothing can be written it is made at each start); it is made anew when the file of the loop
changes, and *only* then. So a loop uses its arguments, NumPy,
`math`, and what its own file holds: nothing of another file of ours (`tests/support/architecture.py` reads that).

`NUMBA_DISABLE_JIT=1` runs the same loops as Python, for a debugger.

Numba: Lam, Pitrou, Seibert, "Numba: a LLVM-based Python JIT compiler", LLVM-HPC 2015.
"""

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")

_ALL: list["Loop[..., Any]"] = []


class Loop(Generic[P, R]):
    """A function that is compiled, or read from the cache, by `warm_up` or when it is first called."""

    __slots__ = ("_call", "_dispatcher", "_function", "_signature")

    def __init__(self, function: Callable[P, R], signature: str) -> None:
        self._signature = signature
        self._function = function
        self._dispatcher: Any = _dispatcher(function, True)
        self._call: Callable[P, R] = self._first

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Arguments by position. Raises TypeError on types that are not the signature's."""
        return self._call(*args, **kwargs)

    def compile(self) -> None:
        """Make it ready; nothing where it is."""
        if self._call is self._dispatcher:
            return
        if hasattr(self._dispatcher, "disable_compile"):  # else it is the Python function itself
            try:
                self._dispatcher.compile(self._signature)
            except OSError:  # the disk is full, or what was kept is not ours to read
                self._dispatcher = _dispatcher(self._function, False)
                self._dispatcher.compile(self._signature)
            self._dispatcher.disable_compile()
        self._call = self._dispatcher

    def _first(self, *args: P.args, **kwargs: P.kwargs) -> R:
        self.compile()
        return self._call(*args, **kwargs)


def _dispatcher(function: Callable[..., Any], keep: bool) -> Any:
    """Numba's, which keeps machine code where there is a folder that can be written."""
    try:
        return numba.njit(cache=keep, error_model="numpy")(function)
    except RuntimeError:  # no such folder
        return numba.njit(error_model="numpy")(function)


def compiled(signature: str) -> Callable[[Callable[P, R]], Loop[P, R]]:
    """Compile a function for these types, in Numba's words: `"void(float32[:, ::1], int64[::1], int64)"`. `::1` says
    contiguous; integers are int64, numbers float64."""

    def of(function: Callable[P, R]) -> Loop[P, R]:
        loop = Loop(function, signature)
        _ALL.append(loop)
        return loop

    return of


def part(function: Callable[P, R]) -> Callable[P, R]:
    """A step of the compiled functions of its own file, for whatever types they give it."""
    made: Callable[P, R] = numba.njit(error_model="numpy")(function)
    return made


def warm_up() -> int:
    """Make every loop of the modules that are loaded ready; how many there are."""
    for loop in _ALL:
        loop.compile()
    return len(_ALL)
