"""How often something that died may be started anew. Pure."""

from collections import deque


class Restarts:
    """At most `most` within any `within_s` seconds: what dies more often has a cause that no restart mends."""

    def __init__(self, most: int, within_s: float) -> None:
        self.most = most
        self.within_s = within_s
        self._at_s: deque[float] = deque()

    def allowed(self, now_s: float) -> bool:
        """Whether one more may be; counts it if so."""
        while self._at_s and now_s - self._at_s[0] > self.within_s:
            self._at_s.popleft()
        if len(self._at_s) >= self.most:
            return False
        self._at_s.append(now_s)
        return True
