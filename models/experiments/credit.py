"""Which arm a click speaks for: the newest lists of readers in experiments are kept, bounded, until a click on one of
their items is credited. Plain Python: it runs once a click of such a reader.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Shown:
    """One list: items that are not yet clicked, each with its arm; no arm where no side of an interleaving has it."""

    partition: int
    experiment: int
    arms: dict[str, int | None]


class Credits:
    """The newest list of each of the last `most` readers who got one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lists: OrderedDict[str, Shown] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lists)

    def show(self, user: str, partition: int, experiment: int, arms: Mapping[str, int | None]) -> None:
        """A reader has a new list; the one before counts no more."""
        self._lists[user] = Shown(partition, experiment, dict(arms))
        self._lists.move_to_end(user)
        if len(self._lists) > self._most:
            self._lists.popitem(last=False)

    def click(self, user: str, item: str) -> tuple[int, int] | None:
        """Experiment and arm that the click is a point for. None: on nothing of the list, on an item of no team, for
        the second time, or of a reader whose list is not known (any more).
        """
        shown = self._lists.get(user)
        arm = shown.arms.pop(item, None) if shown is not None else None
        return None if shown is None or arm is None else (shown.experiment, arm)

    def forget(self, user: str) -> None:
        """Erase one reader."""
        self._lists.pop(user, None)

    def drop(self, partition: int) -> None:
        """Erase the readers of a partition that another worker has now."""
        for user in [user for user, shown in self._lists.items() if shown.partition == partition]:
            del self._lists[user]
