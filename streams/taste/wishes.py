"""What single readers are to be spared in a list: what their click asks for, and what they brought in themselves. Pure.

An item or author that nobody has met cannot be listed, so an unknown name is passed over, and never remembered.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.taste.items.catalogue import Catalogue
from models.taste.lists.filters import NO_PAIRS, Wishes
from models.taste.lists.request import Requests
from streams.events import ListWishes


def requests_of(
    rows: NDArray[np.int32],
    draws: NDArray[np.float64],
    users: Sequence[str],
    asked: Mapping[int, ListWishes],
    catalogue: Catalogue,
    profile_off: bool | NDArray[np.bool_],
    shown: NDArray[np.int64] = NO_PAIRS,
) -> Requests:
    """Requests of readers by row (B,), with their names. `asked`: place -> what the click that causes the list wishes.
    `shown` (P, 2): place and item that the reader was shown lately. For `profile_off` (all of them, or a reader each),
    or whoever asks for it, nothing of the reader is looked at, the own name included."""
    anonymous = _anonymous(len(rows), asked, profile_off)
    excluded = blocked = NO_PAIRS
    if asked:
        excluded = _pairs({place: catalogue.items.find(w.exclude) for place, w in asked.items() if w.exclude})
        blocked = _pairs({place: catalogue.author_ids(w.exclude_authors) for place, w in asked.items()})
    if catalogue.authors:
        own = catalogue.author_ids(users)
        if anonymous is not None:
            own[anonymous] = -1
        places = (own >= 0).nonzero()[0]
        if len(places):
            blocked = np.concatenate([blocked, np.stack([places, own[places]], axis=1)])
    if len(shown):
        some = shown if anonymous is None else shown[~anonymous[shown[:, 0]]]
        excluded = np.concatenate([excluded, some])
    return Requests(rows, draws, anonymous, Wishes(excluded, blocked))


def _anonymous(
    count: int, asked: Mapping[int, ListWishes], profile_off: bool | NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """(B,) of whom nothing is looked at; None for nobody."""
    if profile_off is False and not asked:
        return None
    anonymous = np.full(count, profile_off)
    for place, wishes in asked.items():
        anonymous[place] |= wishes.profile == "off"
    return anonymous if anonymous.any() else None


def _pairs(by_place: Mapping[int, NDArray[np.int32]]) -> NDArray[np.int64]:
    """(N, 2) of place and what there is of it, without what is not known."""
    found = [(place, value) for place, values in by_place.items() for value in values.tolist() if value >= 0]
    return np.array(found, np.int64).reshape(-1, 2)
