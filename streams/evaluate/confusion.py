"""What is taken for what, as a PNG: a table a part of the data, right answers on the diagonal. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streams.errors import UserMistake

OTHER = "other"


def draw_confusion(
    names: Sequence[str], parts: Sequence[tuple[str, Sequence[Sequence[int]]]], path: Path
) -> None:
    """Write the picture. Rows are what was said, columns what was heard; a column beyond `names` is something else.

    Raises UserMistake where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 5.5 * len(parts), 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever the machine's default is
    for at, (title, counts) in enumerate(parts, 1):
        table = np.asarray(counts)
        said = np.maximum(table.sum(1, keepdims=True), 1)
        axes = figure.add_subplot(1, len(parts), at)
        axes.imshow(table / said, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(table.shape[1]), [*names, OTHER][: table.shape[1]], rotation=60)
        axes.set_yticks(range(table.shape[0]), list(names))
        axes.set_xlabel("heard")
        axes.set_ylabel("said")
        right = int(np.trace(table)) / max(1, int(table.sum()))
        axes.set_title(f"{title}: {right:.1%} of {int(table.sum())} right")
        for row, column in np.argwhere(table > 0).tolist():
            dark = table[row, column] > said[row, 0] / 2
            axes.text(
                column,
                row,
                str(table[row, column]),
                ha="center",
                va="center",
                color="white" if dark else "black",
            )
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise UserMistake(f"cannot write {path}: {error.strerror}") from error
