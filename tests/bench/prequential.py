"""Test-then-learn on recorded clicks, through the same code as serving: hit rate of the next item.

    python tests/bench/prequential.py movielens ml-100k.inter       ratings of 5, seen items excluded, top 10
    python tests/bench/prequential.py yoochoose train.tsv           items new to the visit only, top 20

Events are predicted in groups of `--group` (1 = learn after each); a group ends early where a user returns.
The item table takes all changed rows after each group. Scored: from 30 % (movielens) or 20 % (yoochoose) of
the stream on, users' first events excluded; an item that cannot be listed counts as a miss.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.taste import actions
from models.taste.items import ItemIndex
from models.taste.neighbours import ItemColumns
from models.taste.rank import RankSettings, rank
from models.taste.table import ItemTable
from models.taste.transitions import transitions
from models.taste.users import UserRows


def read(kind: str, path: Path) -> tuple[list[str], list[str], np.ndarray]:
    rows = [line.rstrip("\n").split("\t") for line in path.open()][1:]
    if kind == "movielens":
        rows = [(u, i, t) for u, i, rating, t in rows if float(rating) == 5]
    at_ms = np.array([round(float(row[2]) * 1000) for row in rows], np.int64)
    order = np.argsort(at_ms, kind="stable")
    return [rows[i][0] for i in order], [rows[i][1] for i in order], at_ms[order]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["movielens", "yoochoose"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--symmetry", type=float, default=0.5)
    parser.add_argument("--discount", type=float, default=0.9)
    parser.add_argument("--publish", type=int, default=100)
    parser.add_argument("--ring", type=int, default=64)
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--half-life-s", type=float, default=float("inf"))
    parser.add_argument("--rank", default="{}", help="JSON of RankSettings")
    args = parser.parse_args()
    movies = args.kind == "movielens"
    users, names, at_ms = read(args.kind, args.path)
    users, names, at_ms = users[: args.limit], names[: args.limit], at_ms[: args.limit]
    k, start = (10, int(0.3 * len(users))) if movies else (20, int(0.2 * len(users)))
    settings = replace(RankSettings(), **json.loads(args.rank))
    index = ItemIndex()
    tastes = UserRows(index, ring=args.ring)
    columns = ItemColumns(
        index, 1, half_life_s=args.half_life_s, keep=max(200, args.publish), discount=args.discount
    )
    table = ItemTable(index, args.half_life_s, args.followers, args.publish, args.symmetry)
    items = index.lookup(names)
    kinds = np.full(len(users), actions.CODES["click"], np.int8)
    weights, offsets = np.ones(len(users), np.float32), np.arange(len(users), dtype=np.int64)
    had: dict[str, set[int]] = {}
    hits, scored, place, began = 0, 0, 0, time.perf_counter()
    while place < len(users):
        stop = place + 1
        while stop < min(place + args.group, len(users)) and users[stop] not in users[place:stop]:
            stop += 1
        part = slice(place, stop)
        ask = [i for i in range(place, stop) if users[i] in had and i >= start]
        if not movies:
            ask = [i for i in ask if int(items[i]) not in had[users[i]]]
        if ask:
            rows = tastes.rows_of([users[i] for i in ask])
            found = rank(table, tastes, rows, int(at_ms[place]), k, settings).items
            hits += int((found == items[ask][:, None]).sum())
            scored += len(ask)
        folded = tastes.fold(
            users[part], items[part], kinds[part], weights[part], at_ms[part], offsets[part], 10
        )
        moved = transitions(folded, items[part], kinds[part], weights[part], at_ms[part], offsets[part], 0)
        changed = columns.fold(moved, offsets[part])
        table.apply(columns.names(changed), list(columns.encode(changed, args.publish)))
        for i in range(place, stop):
            had.setdefault(users[i], set()).add(int(items[i]))
        place = stop
    spent = time.perf_counter() - began
    print(json.dumps({"scored": scored, f"hit_at_{k}": round(hits / scored, 4), "spent_s": round(spent, 1)}))


if __name__ == "__main__":
    main()
