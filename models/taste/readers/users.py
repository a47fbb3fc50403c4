"""Readers' rows with all that is done to them: what the clicks agent, recovery and lists hold."""

from models.taste.readers.fold import fold_named, fold_rows
from models.taste.readers.rows import Rows
from models.taste.readers.saved import encode, load


class UserRows(Rows):
    """A user's state is a function of that user's own events in offset order, to the last bit: it does not depend on
    how they were cut into batches nor on other users (theory and proof in `models.taste.decay`, the
    steps in `models.taste.readers.steps`). Not thread-safe."""

    fold = fold_named
    fold_rows = fold_rows
    encode = encode
    load = load
