"""Real recorded data through a real worker, end to end, and what came out of it.

    python tests/bench/played.py DATA                          on the embedded broker
    HEADRACE_KAFKA_LIB=lib python tests/bench/played.py DATA --broker kafka
    python tests/bench/played.py DATA --only clicks --clicks-per-s 1000

DATA is a folder with clicks/ml-100k.inter (MovieLens-100K as RecBole keeps it), clicks/yoochoose-100k-train.tsv
(session-rec), text/sst2_dev.tsv, images/*.JPEG (the class in the name), speech/cards and speech/fsdd-recordings.tar.
Ends with 1 when a count does not balance or a state differs from a replay; quality never fails.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import played_clicks
import played_media
from played_figures import shown
from played_stage import Stage

from streams.demo.broker import EmbeddedBroker
from streams.demo.kafka import KafkaBroker
from streams.settings import kafka_lib

KINDS = ("clicks", "text", "audio", "images")


@contextlib.contextmanager
def broker(name: str) -> Iterator[str]:
    """Its bootstrap address."""
    if name == "embedded":
        with EmbeddedBroker() as embedded:
            yield embedded.bootstrap
        return
    lib = kafka_lib()
    if lib is None:
        sys.exit("--broker kafka needs HEADRACE_KAFKA_LIB, the folder of Kafka's jars")
    with KafkaBroker(lib) as kafka:
        yield kafka.bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--broker", choices=["embedded", "kafka"], default="embedded")
    parser.add_argument("--only", choices=KINDS, action="append", help="repeatable; default: all")
    parser.add_argument("--clicks-per-s", type=float, help="an even pace; default: headrace feed --speed max")
    parser.add_argument("--limit", type=int, help="only so many clicks of each recording")
    parser.add_argument(
        "--recording", choices=["movielens", "yoochoose"], help="only this recording of clicks"
    )
    parser.add_argument("--json", action="store_true", help="JSON alone, no tables")
    args = parser.parse_args()
    kinds = args.only or list(KINDS)
    clicks: list[dict[str, Any]] = []
    media: list[dict[str, Any]] = []
    run = int(time.time())
    with tempfile.TemporaryDirectory(prefix="headrace-played-") as folder, broker(args.broker) as bootstrap:
        where = Path(folder)
        if "clicks" in kinds:
            for recording in played_clicks.RECORDINGS:
                if args.recording not in (None, recording.form):
                    continue
                stage = Stage(bootstrap, f"played-{run}-{recording.form}", "clicks,items", where)
                clicks.append(played_clicks.play(stage, args.data, recording, args.clicks_per_s, args.limit))
                say(args.json, clicks_table(clicks[-1:]))
        rest = [kind for kind in KINDS if kind in kinds and kind != "clicks"]
        if rest:
            stage = Stage(bootstrap, f"played-{run}-media", "audio,uploads", where)
            media = played_media.play(stage, args.data, where, rest)
            say(args.json, media_table(media))
    wrong = [row["data"] for row in clicks if not exact(row)] + [
        r["data"] for r in media if not r["balanced"]
    ]
    result = {"bench": "played", "broker": args.broker, "machine": f"{os.cpu_count()} virtual cores"}
    print(json.dumps(result | {"clicks": clicks, "media": media, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


def exact(row: dict[str, Any]) -> bool:
    """Nothing missing, nothing twice, no lag left, every state as a replay makes it."""
    found = row["exact"]
    zeros = [value for name, value in found.items() if name != "states_compared"]
    return not any(zeros) and found["states_compared"] == row["readers"] and not row["lag_at_end"]


def say(quiet: bool, lines: list[str]) -> None:
    if not quiet:
        print("\n".join(lines), flush=True)


def clicks_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| data | mode | clicks | lists | readers | clicks/s | dead | lag when fed, at end | exact |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [row[name] for name in ("data", "mode", "clicks_in", "lists_out", "readers", "clicks_per_s")]
        lag = f"{row['lag_when_fed']:.0f}, {row['lag_at_end']:.0f}"
        lines.append(_row([*cells, row["dead_letters"], lag, "yes" if exact(row) else row["exact"]]))
    lines += [
        "",
        "| data | scored | top | served | served by the clock | popularity |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for name, found in row["quality"].items():
            for top in played_clicks.TOPS:
                figures = [
                    shown(found[f"{w}_hit_at_{top}"]) for w in ("served", "served_by_the_clock", "popularity")
                ]
                lines.append(_row([f"{row['data']}: {name}", found["scored"], top, *figures]))
    return [*lines, ""]


def media_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| data | model | in | labels | dead | labels/s | figures |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        figures = [
            f"{n.replace('_', ' ')} {shown(v)}" for n, v in row.items() if isinstance(v, dict) and "ci95" in v
        ]
        cells = [row[name] for name in ("data", "model", "in", "labels", "dead_letters", "labels_per_s")]
        lines.append(_row([*cells, "; ".join(figures)]))
    return [*lines, ""]


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main()
