from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datagen.errors import InputError
from datagen.image_files import ORIENTED, Picture, read_picture
from datagen.image_set import ImageSet, joined
from datagen.real_images.listing import Entry, Listing
from datagen.real_images.opening import open_source
from datagen.real_images.pairs import Pairing, PairReader, beside, mask_of
from datagen.real_images.reading import Reading, read_images
from datagen.real_images.resizing import Fit, fitted, fitted_mask, fitted_spacing
from tests.real_images.test_shards import picture, write_shard

MASKS = Pairing(wants_masks=True, names=("background", "disc", "ring"))


def entry(name: str, mask: NDArray[np.uint8] | None, *, size: tuple[int, int] = (8, 8)) -> Entry:
    pixels = np.zeros((*size, 1), np.uint8)
    return Entry(
        name,
        "slice",
        lambda: Picture(pixels),
        read_mask=None if mask is None else lambda: mask,
        spacing_mm=(0.5, 2.0),
    )


def disc(value: int = 1) -> NDArray[np.uint8]:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:6] = value
    return mask


def read(entries: list[Entry], *, size: tuple[int, int] = (8, 8), fit: Fit = "crop") -> Reading:
    return read_images(Path("x"), entries, ["slice"], size, [], fit=fit, pairing=MASKS)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(16, 16), (12, 20), (6, 5), (7, 30), (24, 40)])
def test_a_label_map_moves_as_its_image(fit: Fit, size: tuple[int, int]) -> None:
    """A large block: only pixels at its rim may differ."""
    mask = np.zeros((24, 40), np.uint8)
    mask[5:19, 8:30] = 1
    image = fitted((mask * 255)[..., None], size, fit)[..., 0] > 127
    moved = fitted_mask(mask, size, fit) > 0
    assert moved.shape == size
    both, either = (moved & image).sum(), (moved | image).sum()
    assert both / either > 0.85
    # The rims lie within a pixel of each other.
    for axis in (0, 1):
        rims = [np.flatnonzero(each.any(axis=axis))[[0, -1]] for each in (moved, image)]
        assert np.abs(rims[0] - rims[1]).max() <= 1


def test_millimetres_stay_what_they_are() -> None:
    assert fitted_spacing((1.0, 2.0), (24, 40), (12, 40), "stretch") == (2.0, 2.0)
    assert fitted_spacing((1.0, 2.0), (24, 40), (12, 10), "crop") == (2.0, 4.0)
    assert fitted_spacing((1.0, 2.0), (24, 40), (12, 10), "pad") == (4.0, 8.0)


def test_what_lies_beside_images_is_read_with_them() -> None:
    reading = read([entry("a", disc()), entry("b", disc(2))], size=(4, 4))
    images = reading.images
    assert images.masks is not None
    assert images.masks.shape == (2, 4, 4)
    assert [set(np.unique(mask).tolist()) for mask in images.masks] == [{0, 1}, {0, 2}]
    assert images.mask_names == ("background", "disc", "ring")
    assert images.spacing_mm is not None
    assert images.spacing_mm.tolist() == [[1.0, 4.0]] * 2
    taken = images.take([1])
    assert taken.masks is not None
    assert np.array_equal(taken.masks[0], images.masks[1])
    both = joined(images, taken)
    assert both.masks is not None
    assert np.array_equal(both.masks, images.masks[[0, 1, 1]])


def test_sets_without_pairs_have_none() -> None:
    plain = read_images(Path("x"), [entry("a", disc())], ["slice"], (8, 8), []).images
    assert (plain.masks, plain.conditions, plain.mask_names) == (None, None, ())
    assert isinstance(plain, ImageSet)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (None, "no label map lies beside it"),
        (np.ones((8, 9), np.uint8), "its label map is 9 x 8, the image 8 x 8"),
    ],
)
def test_a_map_that_is_missing_or_of_another_size_is_a_broken_image(
    mask: NDArray[np.uint8] | None, told: str
) -> None:
    with pytest.raises(InputError, match=rf"images that cannot be used: b; .*{told}"):
        read([entry("a", disc()), entry("b", mask)])
    most = [entry(str(row), disc()) for row in range(199)]
    reading = read([*most, entry("odd", mask)])
    assert reading.broken == ("odd",)
    assert len(reading.images) == 199
    assert reading.images.masks is not None
    assert len(reading.images.masks) == 199


def test_values_without_a_name_are_counted() -> None:
    told = r"2 label maps of 3 hold values without a name: 7, 9; expected 0 background, 1 disc"
    with pytest.raises(InputError, match=told):
        read([entry("a", disc()), entry("b", disc(7)), entry("c", disc(9))])


def test_empty_maps_are_noted_and_nothing_but_empty_ones_refused() -> None:
    empty = np.zeros((8, 8), np.uint8)
    reading = read([entry("a", disc()), entry("b", empty)])
    assert any(
        "1 label map of 2 without anything but background" in n for n in reading.images.notes
    )
    assert reading.images.notes[1] == "x: shown by no label map: ring"
    with pytest.raises(InputError, match="no label map shows anything but background"):
        read([entry("a", empty), entry("b", empty)])


def encoded(pixels: NDArray[np.generic], mode: str | None = None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([value for level in range(256) for value in (level, 255 - level, 9)])
    image.save(file, "PNG")
    return file.getvalue()


def test_label_maps_hold_numbers_whatever_their_colours() -> None:
    values = np.array([[0, 1], [2, 3]], np.uint8)
    assert np.array_equal(mask_of(encoded(values), name="a"), values)
    assert np.array_equal(mask_of(encoded(values, "P"), name="a"), values)
    assert np.array_equal(mask_of(encoded(values.astype(np.uint16)), name="a"), values)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (encoded(np.full((2, 2), 300, np.uint16)), "values up to 300; expected 0 to 255"),
        (encoded(np.zeros((2, 2, 3), np.uint8)), "label map a"),
        (b"", "label map a"),
        (encoded(np.zeros((64, 64), np.uint8))[:60], "label map a"),
    ],
)
def test_files_that_are_no_label_map_are_refused(data: bytes, told: str) -> None:
    with pytest.raises(InputError, match=told):
        mask_of(data, name="a")


def test_shards_hold_label_maps_and_pictures_beside_images(tmp_path: Path) -> None:
    labels = {"class_name": "slice", "labels": {"spacing_mm": [0.5, 0.25]}, "group": "p1"}
    write_shard(
        tmp_path / "train-000.tar",
        {
            "k.png": picture(3),
            "k.mask.png": encoded(disc()),
            "k.condition.png": picture(9),
            "k.json": json.dumps(labels).encode(),
            "l.png": picture(4),
            "l.json": json.dumps(
                {"class_name": "slice", "labels": {"spacing_mm": [0, "x"]}}
            ).encode(),
        },
    )
    first, second = open_source(tmp_path).list("train").entries
    assert first.read_mask is not None
    assert np.array_equal(first.read_mask(), disc())
    assert first.read_condition is not None
    assert first.read_condition().pixels.mean() == 9
    assert (first.spacing_mm, first.group) == ((0.5, 0.25), "p1")
    assert (second.read_mask, second.read_condition, second.spacing_mm) == (None, None, None)


def test_files_of_one_name_beside_each_other_are_refused(tmp_path: Path) -> None:
    listing = Listing([entry("cat/a.jpg", None)], ("slice",))
    with pytest.raises(InputError, match="expected a folder"):
        beside(listing, tmp_path / "none", pictures=False)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(encoded(disc()))
    (found,) = beside(listing, tmp_path, pictures=False).entries
    assert found.read_mask is not None
    assert np.array_equal(found.read_mask(), disc())
    (tmp_path / "cat" / "a.bmp").write_bytes(b"")
    with pytest.raises(InputError, match="both named cat/a"):
        beside(listing, tmp_path, pictures=False)


@pytest.mark.parametrize("pictures", [False, True])
def test_two_images_do_not_share_what_lies_beside(pictures: bool, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(disc()))
    one, two, other = (entry(name, None) for name in ("a.jpg", "a.png", "b.png"))
    beside(Listing([one, other], ("slice",)), tmp_path, pictures=pictures)
    with pytest.raises(InputError, match=r"two images, a\.jpg and a\.png; rename one"):
        beside(Listing([one, other, two], ("slice",)), tmp_path, pictures=pictures)


@pytest.mark.parametrize("orientation", [0, 2, 3, 6])
def test_an_image_that_its_tag_turns_is_not_taken_with_a_map_that_has_none(
    orientation: int,
) -> None:
    """Also where both are squares, whose sizes agree."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(disc(200)).save(file, "JPEG", exif=exif)
    turned = replace(
        entry("a.jpg", disc()), read=lambda: read_picture(file, formats=("JPEG",), name="a.jpg")
    )
    if orientation == 0:  # as cameras write that know none
        assert len(read([turned, entry("b", disc())]).images) == 2
        return
    told = r"a\.jpg: an EXIF tag turns the image and not its label map.*; save both upright"
    with pytest.raises(InputError, match=told):
        read([turned, entry("b", disc())])


def test_a_picture_that_is_turned_as_its_image_is_taken() -> None:
    pixels = np.zeros((8, 8, 1), np.uint8)
    plain, turned = Picture(pixels), Picture(pixels, (ORIENTED,))
    reader = PairReader(Pairing(wants_pictures=True), (8, 8), "crop")
    reader.read(replace(entry("a", None), read_condition=lambda: plain), plain)
    reader.read(replace(entry("a", None), read_condition=lambda: turned), turned)
    with pytest.raises(InputError, match="a: an EXIF tag turns its picture and not it"):
        reader.read(replace(entry("a", None), read_condition=lambda: turned), plain)
