"""``python -m occupy.relion.logfile FOLDER``: the pictures of a job as the PDF that RELION's GUI shows."""

from __future__ import annotations

import sys
from pathlib import Path

from occupy.io.atomic import atomic_file

MOST_PAGES = 40


def write_logfile(folder: Path) -> int:
    """Write ``logfile.pdf``, a page per picture in the folder; return the number of pages."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    pictures = sorted(folder.glob("*.png"))[:MOST_PAGES]
    if not pictures:
        return 0
    with (
        atomic_file(folder / "logfile.pdf") as part,
        PdfPages(part, metadata={"CreationDate": None}) as pages,
    ):
        for picture in pictures:
            pixels = imread(picture)
            figure = Figure(figsize=(pixels.shape[1] / 150, pixels.shape[0] / 150))
            FigureCanvasAgg(figure)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.imshow(pixels)
            axes.set_axis_off()
            pages.savefig(figure, dpi=150)
    return len(pictures)


if __name__ == "__main__":
    write_logfile(Path(sys.argv[1]))
