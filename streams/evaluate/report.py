"""What `headrace evaluate` prints: the same figures as JSON and as tables."""

import math
from collections.abc import Sequence

from models.evaluate import summary
from streams.evaluate.files import bad_as_json, bad_in_words
from streams.evaluate.run import Found

SHOWN_BAD = 5
_DIGITS = 6


def as_json(found: Found) -> dict[str, object]:
    """One document; what is not known is null."""
    loaded, todo, top = found.loaded, found.plan, found.top
    gaps = summary.by_gap(loaded.recording, found.scored, top)
    curve = summary.curve(found.scored, top)
    document: dict[str, object] = {
        "data": found.wanted.path.name,
        "format": found.wanted.form,
        "protocol": found.protocol,
        "new_only": found.wanted.new_only,
        "k": top,
        "ties": found.wanted.ties,
        "seed": found.wanted.seed,
        "events": len(loaded.recording) - loaded.trained,
        "trained_events": loaded.trained,
        "users": loaded.users,
        "items": len(loaded.recording.item_names),
        "scored": len(found.scored.numbers),
        "first_events_left_out": todo.first_events_left_out,
        "repeats_left_out": todo.repeats_left_out,
        "bad_lines": bad_as_json(loaded.bad, SHOWN_BAD),
        "notes": found.notes,
        "rows": [_row(row) for row in found.rows],
        "by_gap": [
            {"gap": name, "scored": count, "recall_at_k": _by_layer(found.scored.rows, values.tolist())}
            for name, count, values in gaps
        ],
        "curve": {
            "events": curve.events.tolist(),
            "recall_at_k": {
                layer: [_number(value) for value in values]
                for layer, values in zip(found.scored.rows, curve.recall.tolist(), strict=True)
            },
        },
    }
    if found.ratings:
        document["ratings"] = [
            {"estimate": row.name, "rmse": _number(row.rmse), "answered": _number(row.answered)}
            for row in found.ratings
        ]
    if found.liking is not None and found.wanted.interleave is not None:
        liking, (first, second) = found.liking, found.wanted.interleave
        document["interleaved"] = {
            "of": first,
            "over": second,
            "preference": _number(liking.value),
            "low": _number(liking.low),
            "high": _number(liking.high),
            "wins": {first: liking.first, second: liking.second},
        }
    if found.wanted.against:
        document["against"] = {
            "row": found.wanted.against,
            "rows": [_apart(one) for one in found.differences],
        }
    if found.by_delay:
        document["freshness"] = [
            {
                "delay": name,
                "delay_s": None if delay_ms is None else delay_ms / 1000,
                "rows": [_row(row) for row in rows],
            }
            for name, delay_ms, rows in found.by_delay
        ]
    return document


def as_text(found: Found) -> str:
    """Caption, table, by gap; with freshness a table of delays."""
    loaded, todo, k = found.loaded, found.plan, found.top
    gaps = summary.by_gap(loaded.recording, found.scored, k)
    lines = [caption(found), *found.notes, *bad_in_words(loaded.bad, SHOWN_BAD), ""]
    head: tuple[str, ...] = (
        "layer",
        f"recall@{k}",
        f"MRR@{k}",
        f"NDCG@{k}",
        "MPR",
        "coverage",
        "Gini",
        "novelty",
        "distance",
    )
    if found.scored.topic_distances is not None:
        head = (*head, "by topics")
    lines += _aligned([head, *(_cells(row) for row in found.rows)])
    lines += [
        "",
        "recall = hit rate (one right item); in brackets 95 % by bootstrap over users; MPR in % of the catalogue,",
        "chance 50; novelty (bits) and distance (1 - cosine of readerships) of listed places, by the whole recording.",
        "",
        f"recall@{k} by time since the reader's last event:",
    ]
    rows = [("layer", *(f"{name} ({count:,})" for name, count, _ in gaps))]
    for i, layer in enumerate(found.scored.rows):
        rows.append((layer, *(_shown(float(values[i])) for _, _, values in gaps)))
    lines += _aligned(rows)
    if found.ratings:
        lines += ["", "error of estimated ratings at the same events (no answer: the mean so far):"]
        lines += _aligned(
            [
                ("estimate", "RMSE", "answered"),
                *((row.name, _shown(row.rmse), f"{100 * row.answered:.1f} %") for row in found.ratings),
            ]
        )
    if found.liking is not None and found.wanted.interleave is not None:
        liking, (first, second) = found.liking, found.wanted.interleave
        lines += [
            "",
            f"{first} and {second} interleaved (team draft): {liking.first:,} and {liking.second:,} points; preference",
            f"for {first}: {liking.value:+.3f} ({liking.low:+.3f} to {liking.high:+.3f}); 0 is none, +0.5 always.",
        ]
    if found.wanted.against:
        lines += ["", *_against(found)]
    if found.by_delay:
        lines += ["", *_freshness(found)]
    if todo.at_end:
        lines += [
            "",
            "leave-one-out: other readers' later events are in what is learnt; to compare with papers only.",
        ]
    return "\n".join(lines)


def caption(found: Found) -> str:
    """What was measured, with all denominators."""
    loaded, todo = found.loaded, found.plan
    events = len(loaded.recording) - loaded.trained
    out = "the reader's own items taken out" if todo.own_out else "repeats allowed"
    trained = f" after {loaded.trained:,} to learn from" if loaded.trained else ""
    items = f"{loaded.users:,} users, all {len(loaded.recording.item_names):,} items"
    left = [f"{todo.first_events_left_out:,} first events"]
    if todo.own_out:
        left.append(f"{todo.repeats_left_out:,} repeats")
    return (
        f"{found.wanted.path.name}, {found.protocol}: {len(found.scored.numbers):,} of {events:,} events scored"
        f"{trained} (left out {' and '.join(left)}), {items}"
        f" ranked, {out}, ties {'against us' if found.wanted.ties == 'against' else 'half'}."
    )


def _against(found: Found) -> list[str]:
    """Differences from a row, at the same events."""
    k, topics = found.top, found.scored.topic_distances is not None
    rows = [("layer", f"recall@{k}", f"NDCG@{k}", "distance", *(["by topics"] if topics else []))]
    for one in found.differences:
        figures = (one.recall, one.ndcg, one.intra_list_distance, one.topic_distance)
        rows.append(
            (one.layer, *(f"{v:+.4f} ({low:+.4f} to {high:+.4f})" for v, low, high in filter(None, figures)))
        )
    return [f"against {found.wanted.against}, the differences event by event:", *_aligned(rows)]


def _apart(one: summary.Difference) -> dict[str, object]:
    measured = {
        "recall_at_k": one.recall,
        "ndcg_at_k": one.ndcg,
        "intra_list_distance": one.intra_list_distance,
        **({} if one.topic_distance is None else {"topic_distance": one.topic_distance}),
    }
    return {
        "layer": one.layer,
        **{name: [_number(value) for value in found] for name, found in measured.items()},
    }


def _freshness(found: Found) -> list[str]:
    """Rows by delay; the last column is what a click's own update adds to a frozen table."""
    k = found.top
    lines = [
        f"recall@{k} where what all readers share learns an event so much later (readers' own state never waits):"
    ]
    rows = [("layer", *(name for name, _, _ in found.by_delay), "click over frozen")]
    for i, row in enumerate(found.rows):
        values = [table[i].recall[0] for _, _, table in found.by_delay]
        gain = f"{100 * (values[0] / values[-1] - 1):+.1f} %" if values[-1] else "-"
        rows.append((row.layer, *(_shown(value) for value in values), gain))
    return lines + _aligned(rows)


def _row(row: summary.Row) -> dict[str, object]:
    measured = {"recall_at_k": row.recall, "mrr_at_k": row.mrr, "ndcg_at_k": row.ndcg, "mpr": row.mpr}
    return {
        "layer": row.layer,
        "recall_at_k": _number(row.recall[0]),
        "hr_at_k": _number(row.recall[0]),
        "mrr_at_k": _number(row.mrr[0]),
        "ndcg_at_k": _number(row.ndcg[0]),
        "mpr": _number(row.mpr[0]),
        "coverage": _number(row.coverage),
        "gini": _number(row.gini),
        "novelty_bits": _number(row.novelty_bits),
        "intra_list_distance": _number(row.intra_list_distance),
        **({} if row.topic_distance is None else {"topic_distance": _number(row.topic_distance)}),
        "ci95": {name: [_number(figure[1]), _number(figure[2])] for name, figure in measured.items()},
    }


def _cells(row: summary.Row) -> tuple[str, ...]:
    return (
        row.layer,
        *(f"{_shown(f[0])} ({_shown(f[1])}-{_shown(f[2])})" for f in (row.recall, row.mrr, row.ndcg)),
        f"{row.mpr[0]:.1f} ({row.mpr[1]:.1f}-{row.mpr[2]:.1f})",
        *(_shown(value) for value in (row.coverage, row.gini)),
        "-" if math.isnan(row.novelty_bits) else f"{row.novelty_bits:.2f}",
        _shown(row.intra_list_distance),
        *([] if row.topic_distance is None else [_shown(row.topic_distance)]),
    )


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _number(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None


def _by_layer(layers: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    return {layer: _number(value) for layer, value in zip(layers, values, strict=True)}


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
