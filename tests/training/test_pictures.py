from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datagen.errors import TrainingError
from datagen.images import decode_png
from datagen.training.pictures import curves_png, sample_sheet, save_grid


def samples(num_classes: int, *, side: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (10, side, side, 3), dtype=np.uint8) for _ in range(num_classes)]


def test_a_sheet_has_a_row_for_each_class_as_far_as_a_page_goes() -> None:
    few, many = decode_png(sample_sheet(samples(3))), decode_png(sample_sheet(samples(6, side=256)))
    assert few.shape[0] > 3 * 56
    assert many.shape[0] * many.shape[1] <= 4_500_000


def test_a_grid_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        save_grid(tmp_path / "file" / "grid.png", samples(2))
    save_grid(tmp_path / "grids" / "grid.png", samples(2))
    assert [path.name for path in (tmp_path / "grids").iterdir()] == ["grid.png"]


def ink(png: bytes) -> np.ndarray:
    return np.argwhere((np.asarray(Image.open(io.BytesIO(png))) == (31, 78, 140)).all(axis=2))


def test_curves_have_a_panel_for_each_figure() -> None:
    history = [{"images": 10.0 * i, "kid": 1.0 / (1 + i), "loss": 2.0} for i in range(5)]
    page = curves_png(history)
    assert page is not None
    assert Image.open(io.BytesIO(page)).size == (720, 200)
    places = ink(page)
    assert (places[:, 1] < 360).any()
    assert (places[:, 1] > 360).any()


def test_a_falling_figure_falls() -> None:
    page = curves_png([{"images": 1.0 * i, "kid": 5.0 - i} for i in range(5)])
    assert page is not None
    places = ink(page)
    line = places[places[:, 0] > 40]  # below the title
    assert line[line[:, 1].argmin(), 0] < line[line[:, 1].argmax(), 0]


def test_one_evaluation_makes_no_curve() -> None:
    assert curves_png([{"images": 1.0, "kid": 2.0}]) is None
