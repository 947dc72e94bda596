"""watermark: whether images carry the invisible mark of a recipe's `output.watermark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from datagen.commands.edge import shared_options
from datagen.commands.output import print_json, print_table
from datagen.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


@click.group()
def watermark() -> None:
    """Look for the invisible watermark in images."""


@watermark.command("check")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
)
@click.option("--key", help="The key that the images were marked with; datagen's own if left out.")
@shared_options
def check(files: tuple[Path, ...], key: str | None, home: Path | None, as_json: bool) -> None:
    """Say of each FILE whether the watermark is in it, and of all together.

    Images have to be as large and lie as they were marked: not cut, turned or scaled. No mark found
    proves nothing, least of all below 64 pixels; there, give many images of one source.
    """
    from datagen.image_files import read_picture
    from datagen.watermark import DEFAULT_KEY, THRESHOLD, detect, detect_together

    def pixels(path: Path) -> NDArray[np.uint8]:
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected an image")
        picture = read_picture(path, formats=_FORMATS, name=str(path))
        return picture.pixels

    found = [detect(pixels(path), key=key or DEFAULT_KEY) for path in files]
    together = detect_together(map(pixels, files), key=key or DEFAULT_KEY)
    if as_json:
        content = {
            "files": [
                {"file": str(path), "score": each.score, "present": each.present}
                for path, each in zip(files, found, strict=True)
            ],
            "score": together.score,
            "present": together.present,
            "threshold": round(THRESHOLD, 4),
        }
        print_json(content)
        return
    named = [(str(path), each) for path, each in zip(files, found, strict=True)]
    named += [("all together", together)] if len(files) > 1 else []
    rows = [[name, f"{each.score:.2f}", _word(each.present)] for name, each in named]
    print_table(["file", "score", "watermark"], rows)
    click.echo(f"found above a score of {THRESHOLD:.2f}, which 1 in 10,000 images without it has")


def _word(present: bool) -> str:
    return "found" if present else "not found"
