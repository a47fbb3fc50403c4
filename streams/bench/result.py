"""What a benchmark says: rows, ratios and the machine, as JSON and as a table. Pure but for reading /proc/cpuinfo."""

import os
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(slots=True)
class Result:
    """`rows` have a `case` and figures with their units in their names; a ratio of None was not measured."""

    bench: str
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    ratios: dict[str, float | None] = field(default_factory=dict)
    plan: dict[str, Any] = field(
        default_factory=dict
    )  # on paper: what the measured speed means for a large load

    def as_json(self) -> dict[str, Any]:
        found = {"bench": self.bench, "machine": self.machine, "rows": self.rows, "ratios": self.ratios}
        return found | ({"plan": self.plan} if self.plan else {})

    def table(self) -> str:
        """Aligned columns for people; a figure that a row lacks is a dash."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        cells = [columns] + [[_shown(row.get(name)) for name in columns] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if not i else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        ratios = ", ".join(f"{name} {_shown(value)}" for name, value in self.ratios.items())
        where = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        plan = [f"plan: {', '.join(f'{name} {_shown(value)}' for name, value in self.plan.items())}"]
        more = [*([f"ratios: {ratios}"] if ratios else []), *(plan if self.plan else [])]
        return "\n".join([f"{self.bench} ({where})", *lines, *more])


def ratio(rows: Sequence[Row], figure: str, case: str, other: str) -> float | None:
    """`case` over `other`, two decimals; None when either was not measured."""
    found = {row["case"]: row.get(figure) for row in rows}
    above, below = found.get(case), found.get(other)
    if above is None or not below:
        return None
    return round(float(above) / float(below), 2)


def median_row(rows: Sequence[Row], by: str) -> Row:
    """The row whose figure is the (lower) median: its other figures belong to the same run."""
    middle = statistics.median_low([row[by] for row in rows])
    return next(row for row in rows if row[by] == middle) | (
        {"repetitions": len(rows)} if len(rows) > 1 else {}
    )


def machine(broker: Mapping[str, Any]) -> dict[str, Any]:
    """The broker's lane, and what ran it."""
    return {
        **broker,
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return (
            f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
        )
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
