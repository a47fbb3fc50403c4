"""Cost of the taste layer alone, one core, seeded: fold and encode, load, the item side, lists.

    OPENBLAS_NUM_THREADS=1 python tests/bench/taste.py [--json] [--seed 1]
 Clicks are of 50,000 users over 8 partitions and of 4,000 items, both Zipf with exponent 1; one partition's
share is folded in batches of 4,000. `hot` adds a user with 40 % of all clicks. The best of three runs is
shown, since other work on the machine only slows.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable

import numpy as np

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue, Entry
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.learnt.calibrated import Calibrated
from models.taste.lists.choose import rank
from models.taste.lists.pipeline import lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.transitions import decode, encode, transitions
from models.taste.readers.users import UserRows

BATCH = 4000
Row = dict[str, float | str]


class Clicks:
    """Columns of one partition's clicks."""

    def __init__(self, seed: int, count: int, hot: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        zipf = 1 / np.arange(1, 50_001)
        mine = np.flatnonzero(rng.integers(0, 8, 50_000) == 0)
        who = rng.choice(mine, count, p=zipf[mine] / zipf[mine].sum())
        who[rng.random(count) < hot] = 0
        self.users = [f"user-{u}" for u in who.tolist()]
        popular = 1 / np.arange(1, 4001)
        self.names = [f"item-{i}" for i in rng.choice(4000, count, p=popular / popular.sum()).tolist()]
        self.at_ms = 1_700_000_000_000 + np.sort(rng.integers(0, 3_600_000, count))
        self.kinds = np.full(count, actions.CODES["click"], np.int8)
        self.weights = np.ones(count, np.float32)
        self.offsets = np.arange(count, dtype=np.int64)

    def batches(self, size: int = BATCH) -> list[slice]:
        return [slice(start, start + size) for start in range(0, len(self.users), size)]

    def fold(self, users: UserRows, part: slice, window: int = 0):  # type: ignore[no-untyped-def]
        items = users.items.lookup(self.names[part])
        columns = (self.kinds[part], self.weights[part], self.at_ms[part], self.offsets[part])
        return items, users.fold(self.users[part], items, *columns, window)


def best_of(runs: int, measure: Callable[[], Row], key: str, largest: bool = False) -> Row:
    found = [measure() for _ in range(runs)]
    return (max if largest else min)(found, key=lambda row: float(row[key]))


def measure_fold(clicks: Clicks, case: str, size: int = BATCH) -> Row:
    users, folding, encoding, count, total = UserRows(ItemIndex()), 0.0, 0.0, 0, 0
    for part in clicks.batches(size):
        began = time.process_time()
        _, folded = clicks.fold(users, part)
        between = time.process_time()
        values = users.encode(folded.rows)
        encoding += time.process_time() - between
        folding += between - began
        count += len(values)
        total += sum(map(len, values))
    clicks_n = len(clicks.users)
    return {
        "case": case,
        "fold_us_per_click": folding / clicks_n * 1e6,
        "encode_us_per_click": encoding / clicks_n * 1e6,
        "us_per_click": (folding + encoding) / clicks_n * 1e6,
        "rows_per_batch": count / len(clicks.batches(size)),
        "bytes_per_value": total / count,
        "bytes_per_user": users.bytes_used() / len(users),
    }


def measure_load(clicks: Clicks) -> Row:
    users = UserRows(ItemIndex())
    for part in clicks.batches():
        clicks.fold(users, part)
    names = users.users()
    values = users.encode(users.rows_of(names))
    names = [f"{copy}-{name}" for copy in range(5) for name in names]
    values = values * 5
    again = UserRows(users.items)
    began = time.process_time()
    for start in range(0, len(names), 5000):
        again.load(names[start : start + 5000], values[start : start + 5000])
    spent = time.process_time() - began
    return {
        "case": "load",
        "rows_per_s": len(names) / spent,
        "mb_per_s": sum(map(len, values)) / spent / 1e6,
        "bytes_per_value": sum(map(len, values)) / len(values),
    }


def measure_items(clicks: Clicks) -> tuple[Row, UserRows, ItemTable]:
    index = ItemIndex()
    users, columns, table = UserRows(index), ItemColumns(index, 8), ItemTable(index)
    spent = {"transitions": 0.0, "decode": 0.0, "item_fold": 0.0, "item_encode": 0.0, "table_apply": 0.0}
    rows_n = sent = 0
    for part in clicks.batches():
        items, folded = clicks.fold(users, part, window=10)
        marks = [time.process_time()]
        columns_in = (clicks.kinds[part], clicks.weights[part], clicks.at_ms[part], clicks.offsets[part])
        found = transitions(folded, items, *columns_in, source=0)
        values = encode(found, index)
        marks.append(time.process_time())
        batch = decode([index.names[i] or "" for i in found.items.tolist()], values, index, 10)
        marks.append(time.process_time())
        rows = columns.fold(batch, np.arange(sent, sent + len(values)))
        marks.append(time.process_time())
        published = columns.encode(rows)
        marks.append(time.process_time())
        table.apply(columns.names(rows), list(published))
        marks.append(time.process_time())
        for name, step in zip(spent, np.diff(marks).tolist(), strict=True):
            spent[name] += step
        rows_n += len(rows)
        sent += len(values)
    row: Row = {"case": "item side"}
    for name, spent_s in spent.items():
        by_row = name in ("item_encode", "table_apply")
        row[f"{name}_us_per_{'row' if by_row else 'click'}"] = spent_s / (rows_n if by_row else sent) * 1e6
    return row, users, table


def measure_rank(users: UserRows, table: ItemTable, batch: int, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(users), batch * max(8, 2048 // batch)).astype(np.int32)
    now_ms = int(users.newest_at_ms.max())
    began = time.process_time()
    for start in range(0, len(rows), batch):
        rank(table, users, rows[start : start + batch], now_ms, 20, RankSettings())
    spent = time.process_time() - began
    return {
        "case": f"lists of 20 from {len(table)} items, batches of {batch}",
        "us_per_list": spent / len(rows) * 1e6,
    }


def measure_stages(users: UserRows, table: ItemTable, seed: int) -> list[Row]:
    """The pipeline at batches of 64: nothing on (beside `rank` alone), then one stage at a time."""
    rng = np.random.default_rng(seed)
    batch, now_ms = 64, int(users.newest_at_ms.max())
    rows = rng.integers(0, len(users), batch * 24).astype(np.int32)
    none, full = Catalogue(table.items), Catalogue(table.items)
    names = [name for name in table.items.names if name]
    full.apply(names, [Entry(f"a{n % 400}", now_ms - n, (f"t{n % 12}",)) for n in range(len(names))])
    cases: dict[str, tuple[Catalogue, ListSettings]] = {
        "pipeline, defaults": (none, ListSettings()),
        "catalogue known, author decay": (full, ListSettings()),
        "at most 2 of 10 by an author": (full, ListSettings(author_most=2)),
        "mmr": (none, ListSettings(diversity="mmr")),
        "mmr, 12 topics": (full, ListSettings(diversity="mmr", alike="topics")),
        "spread, 12 topics": (full, ListSettings(diversity="spread", alike="topics")),
        "expected, 12 topics, blend": (full, ListSettings(diversity="expected", alike="topics", blend=True)),
        "spread, 12 topics, blend": (full, ListSettings(diversity="spread", alike="topics", blend=True)),
        "spread, both": (full, ListSettings(diversity="spread", alike="both")),
        "dpp": (none, ListSettings(diversity="dpp")),
        "calibration, 12 topics": (full, ListSettings(diversity="calibration")),
        "exploration": (none, ListSettings(explore_below=10.0)),
    }

    weights = Calibrated()

    def of(case: str, catalogue: Catalogue, settings: ListSettings) -> Row:
        began = time.process_time()
        for start in range(0, len(rows), batch):
            some = Requests(rows[start : start + batch], np.full(batch, 0.5))
            lists(table, catalogue, users, some, now_ms, 20, settings, learnt=weights)
        return {"case": case, "us_per_list": (time.process_time() - began) / len(rows) * 1e6}

    def plain() -> Row:
        began = time.process_time()
        for start in range(0, len(rows), batch):
            rank(table, users, rows[start : start + batch], now_ms, 20, RankSettings())
        return {"case": "rank alone", "us_per_list": (time.process_time() - began) / len(rows) * 1e6}

    found = [best_of(5, plain, "us_per_list")]
    for case, (catalogue, settings) in cases.items():
        found.append(best_of(3, lambda c=case, k=catalogue, s=settings: of(c, k, s), "us_per_list"))  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    clicks, hot = Clicks(args.seed, 200_000), Clicks(args.seed, 200_000, hot=0.4)
    short = Clicks(args.seed, 4_000)
    rows = [
        best_of(3, lambda: measure_fold(clicks, "fold and encode, batches of 4000"), "us_per_click"),
        best_of(3, lambda: measure_fold(hot, "the same with a hot user"), "us_per_click"),
        best_of(3, lambda: measure_fold(short, "the same, batches of 2", 2), "us_per_click"),
        best_of(3, lambda: measure_load(clicks), "rows_per_s", largest=True),
    ]
    item_row, users, table = measure_items(clicks)
    rows.append(item_row)
    rows.extend(
        best_of(3, lambda b=b: measure_rank(users, table, b, args.seed), "us_per_list")  # type: ignore[misc]
        for b in (1, 16, 64, 256)
    )
    rows += measure_stages(users, table, args.seed)
    machine = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    if args.json:
        print(json.dumps({"bench": "taste", "machine": machine, "rows": rows, "ratios": {}}))
        return
    print(machine)
    for row in rows:
        figures = "  ".join(f"{name} {value:,.1f}" for name, value in row.items() if name != "case")
        print(f"{row['case']:50} {figures}")


if __name__ == "__main__":
    main()
