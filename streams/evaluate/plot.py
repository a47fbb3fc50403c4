"""The learning curve, or recall by delay, as a PNG. Needs matplotlib (the extra `evaluate`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.evaluate import summary
from streams.errors import EnvironmentProblem, UserMistake
from streams.evaluate.run import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = {"popularity": ":", "last-item": ":", "item-knn": ":"}  # baselines are dotted


def require_matplotlib() -> None:
    """Before minutes of work: raises EnvironmentProblem where the picture could not be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise EnvironmentProblem("--plot needs matplotlib: pip install 'headrace[evaluate]'") from None


def draw(found: Found, path: Path) -> None:
    """Write the picture. Raises UserMistake where the file cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever the machine's default is
    axes = figure.add_subplot()
    (_delays if found.by_delay else _curve)(axes, found)
    axes.set_ylabel(f"recall@{found.top}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise UserMistake(f"cannot write {path}: {error.strerror}") from error


def _curve(axes: "Axes", found: Found) -> None:
    curve = summary.curve(found.scored, found.top)
    for layer, values in zip(found.scored.rows, curve.recall, strict=True):
        _line(axes, curve.events, values, layer)
    stretches = len(curve.events)
    axes.set_xlabel("events of the recording seen")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_title(
        f"{found.wanted.path.name}, {found.protocol}{' (new items only)' if found.wanted.new_only else ''}: "
        f"{len(found.scored.numbers):,} scored, mean of {stretches} stretches"
    )


def _delays(axes: "Axes", found: Found) -> None:
    names = [name for name, _, _ in found.by_delay]
    for i, row in enumerate(found.rows):
        figures = [table[i].recall for _, _, table in found.by_delay]
        values = [value for value, _, _ in figures]
        _line(axes, range(len(names)), values, row.layer, marker="o")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("how late what all readers share learns a click")
    axes.set_title(f"{found.wanted.path.name}, last 20 %: {len(found.scored.numbers):,} scored")


def _line(axes: "Axes", x: Any, y: Any, layer: str, marker: str = "") -> None:
    axes.plot(
        x, y, label=layer, linestyle=_STYLES.get(layer, "-"), linewidth=1.6, marker=marker, markersize=4
    )
