"""The clicks agent's part: carries orders out, and drops what comes late of readers who were forgotten.

Everything it does follows from the log and the register; what it asks for are effects like any other.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streams.clock import Clock
from streams.columns import ClickColumns
from streams.effects import Effects, Emit
from streams.privacy.orders import Done, Placed, home_of
from streams.privacy.register import Row
from streams.refusals.rejected import Rejected
from streams.state.users import UserState
from streams.topology.topics import PRIVACY, RECOMMENDATIONS, TASTE_CHANGELOG

KEY_BYTES = 64  # the most that the register's hash takes


class PrivacyObserver(Protocol):
    """What the metrics want to know."""

    def forgotten(self, records: int) -> None: ...
    def repeated(self, records: int) -> None: ...
    def privacy_order(self, kind: str) -> None: ...


class PrivacyKeeper:
    """Works on the agent's own state, on the event loop, between the folds."""

    def __init__(
        self,
        state: UserState,
        partitions: int,
        clock: Clock,
        beside: Callable[[str, int], None],
        observer: PrivacyObserver,
    ) -> None:
        """`beside` forgets a reader of a partition wherever there is something beside the state."""
        self._state = state
        self._partitions = partitions
        self._clock = clock
        self._beside = beside
        self._observer = observer

    def obey(self, effects: Effects, partition: int, placed: Placed) -> None:
        """Carry an order out. It stands in every partition, and concerns those where the reader has state, the one
        where the reader's key belongs, and the one it came from."""
        order, register, rows = placed.order, self._state.register, self._state.rows
        key = order.user.encode()
        fence = rows.fence_of(order.user, partition)
        known = register.row(partition, order.user)
        if fence < 0 and known is None and partition not in (order.home, home_of(key, self._partitions)):
            return
        if placed.offset <= max(fence, known.fence if known is not None else -1):
            self._observer.repeated(1)  # read again: was carried out, and is durable
            return
        row = register.ordered(
            partition,
            order.user,
            order.kind,
            placed.offset,
            placed.at_ms,
            max(order.until, placed.at_ms),
            has_state=fence >= 0,
        )
        if order.kind == "forget":
            self._state.forget(order.user, partition)
            self._beside(order.user, partition)
            effects.changelog.append(Emit(TASTE_CHANGELOG, partition, [key], [None]))
        if order.kind != "opt_in":  # the list there was made of the reader's profile
            effects.outputs.append(Emit(RECOMMENDATIONS, partition, [key], [None]))
        kept = register.put(partition, order.user, row)
        effects.changelog.append(Emit(TASTE_CHANGELOG, partition, [kept], [row.encode()]))
        done = Done(order.id, order.kind, partition, fence >= 0)
        effects.outputs.append(Emit(PRIVACY, order.home, [key], [None], [done.headers()], placed.at_ms))
        self._observer.privacy_order(order.kind)
        swept = register.sweep(partition, self._clock.wall_ms())
        if swept is not None:
            effects.changelog.append(swept)

    def allowed(self, part: ClickColumns) -> ClickColumns:
        """The clicks without those of readers who are forgotten: nobody who has a row is, so only strangers are
        looked up."""
        strangers = self._state.rows.strangers(part.users, part.partition)
        barred: dict[str, Row] = {}
        for user in strangers:
            row = self._state.register.row(part.partition, user)
            if row is not None and row.forgot >= 0:
                barred[user] = row
        if not barred:
            return part
        kept, late, repeated = [], 0, 0
        for place, (user, offset) in enumerate(zip(part.users, part.offsets.tolist(), strict=True)):
            row = barred.get(user)
            if row is not None and offset <= row.forgot:
                repeated += 1
            elif row is not None and part.records[place].timestamp < row.until_ms:
                late += 1
            else:
                kept.append(place)
                if row is not None:  # the block is over, whatever times the next ones have
                    del barred[user]
                    self._state.register.lift(part.partition, user)
        if late:
            self._observer.forgotten(late)
        if repeated:
            self._observer.repeated(repeated)
        return part.take(kept)

    def letters_allowed(self, partition: int, rejected: Sequence[Rejected]) -> list[Rejected]:
        """Bad records, without those keyed by a reader who is forgotten: they would be dead letters for a month."""
        kept = []
        for one in rejected:
            key = (one.record.key or b"").decode(errors="replace")
            row = self._state.register.row(partition, key) if key else None
            if row is not None and (one.record.offset <= row.forgot or one.record.timestamp < row.until_ms):
                continue
            kept.append(one)
        if len(kept) < len(rejected):
            self._observer.forgotten(len(rejected) - len(kept))
        return kept

    def anonymous(self, partitions: NDArray[np.int32], users: Sequence[str]) -> NDArray[np.bool_] | None:
        """Which of the readers want no profile; None: nobody does."""
        register = self._state.register
        if not register.anybody_without_profile:
            return None
        wished = [
            user in register.wants_no_profile(partition)
            for user, partition in zip(users, partitions.tolist(), strict=True)
        ]
        return np.array(wished, np.bool_)
