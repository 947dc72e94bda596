from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datagen.errors import InputError
from datagen.evaluation.checks import MatchedSets, match_sets, overlap, split_reference
from datagen.image_set import ImageSet
from tests.evaluation.picture_folders import image_set


def three(num: int = 20) -> tuple[ImageSet, ImageSet, ImageSet]:
    return (
        image_set(num, seed=1, prefix="s"),
        image_set(num, seed=2, prefix="t"),
        image_set(num, seed=3, prefix="h"),
    )


def said(matched: MatchedSets, text: str) -> bool:
    return any(text in note for note in matched.notes)


def refused(synthetic: ImageSet, train: ImageSet, held_out: ImageSet | None = None) -> str:
    with pytest.raises(InputError) as caught:
        match_sets(synthetic, train, held_out, seed=0)
    return str(caught.value)


def joined(a: ImageSet, b: ImageSet) -> ImageSet:
    return replace(
        a,
        images=np.concatenate([a.images, b.images]),
        class_ids=np.concatenate([a.class_ids, b.class_ids]),
        names=(*a.names, *b.names),
    )


def test_sets_that_fit_pass_unchanged() -> None:
    synthetic, train, held_out = three()
    matched = match_sets(synthetic, train, held_out, seed=0)
    assert matched.synthetic is synthetic
    assert np.array_equal(matched.train.images, train.images)
    assert matched.held_out.names == held_out.names
    assert matched.notes == ()


def test_class_names_are_mapped_however_they_are_written() -> None:
    synthetic, train, held_out = three()
    synthetic = replace(synthetic, class_names=("ankle-boot", "Bag"))
    train = replace(train, class_names=("bag", "Ankle boot"))
    held_out = replace(held_out, class_names=("ankle_boot", "bag"))
    matched = match_sets(synthetic, train, held_out, seed=0)
    assert matched.train.class_names == matched.held_out.class_names == ("ankle-boot", "Bag")
    assert np.array_equal(matched.train.class_ids, 1 - train.class_ids)
    assert np.array_equal(matched.held_out.class_ids, held_out.class_ids)
    assert said(matched, "reference: classes taken as equal: Ankle boot = ankle-boot, bag = Bag")


def test_numbers_are_taken_as_the_order_of_the_classes() -> None:
    synthetic, train, held_out = three()
    numbered = replace(synthetic, class_names=("1", "0"))
    matched = match_sets(numbered, train, held_out, seed=0)
    assert np.array_equal(matched.train.class_ids, 1 - train.class_ids)
    assert said(matched, "reference: classes taken as equal: dog = 1, cat = 0")
    assert "no class 1, 2" in refused(replace(synthetic, class_names=("1", "2")), train, held_out)


def test_two_classes_are_never_one() -> None:
    synthetic, train, held_out = three()
    message = refused(replace(synthetic, class_names=("cat", "Cat")), train, held_out)
    assert "class cat would be two classes of the data set" in message


def test_classes_that_the_data_set_lacks_are_left_out() -> None:
    synthetic = image_set(40, class_names=("cat", "dog"), seed=1, prefix="s")
    train = image_set(40, class_names=("ant", "cat", "dog"), seed=2, prefix="t")
    matched = match_sets(synthetic, train, seed=0)
    assert matched.train.class_names == matched.held_out.class_names == ("cat", "dog")
    assert len(matched.train) + len(matched.held_out) == 80
    assert said(matched, "classes that the data set has not, left out: ant")


def test_a_reference_without_a_class_of_the_data_set_is_refused() -> None:
    synthetic, train, held_out = three()
    message = refused(replace(synthetic, class_names=("cat", "eel")), train, held_out)
    assert "reference: no class eel; it has cat, dog: rename" in message
    numbered = replace(train, class_names=("0", "1"))
    assert "classes.txt" in refused(synthetic, numbered, held_out)
    unclear = replace(train, class_names=("d-o-g", "Dog"))
    assert "could all be 'dog'" in refused(
        replace(synthetic, class_names=("d-o-g", "dog")), unclear, held_out
    )


@pytest.mark.parametrize("grey", ["synthetic", "real"])
def test_rgb_of_equal_channels_is_grey(grey: str) -> None:
    synthetic, train, held_out = three()
    rgb = [replace(s, images=s.images.repeat(3, axis=3)) for s in (synthetic, train, held_out)]
    sets = (synthetic, *rgb[1:]) if grey == "synthetic" else (rgb[0], train, held_out)
    matched = match_sets(*sets, seed=0)
    assert matched.synthetic.image_shape == matched.train.image_shape == (8, 8, 1)
    assert np.array_equal(matched.synthetic.images, synthetic.images)
    assert said(matched, "RGB with three equal channels, taken as grey")


def test_grey_beside_colour_is_repeated() -> None:
    synthetic, _, held_out = three()
    train = image_set(20, shape=(8, 8, 3), seed=2, prefix="t")
    matched = match_sets(synthetic, train, held_out, seed=0)
    assert matched.synthetic.image_shape == matched.held_out.image_shape == (8, 8, 3)
    assert np.array_equal(matched.synthetic.images[..., 2], synthetic.images[..., 0])
    assert said(matched, "data set: grey, repeated to RGB")
    assert said(matched, "held-out data: grey, repeated to RGB")


def test_other_sizes_are_brought_to_the_data_sets() -> None:
    synthetic, _, held_out = three()
    train = image_set(20, shape=(16, 12, 1), seed=2, prefix="t")
    matched = match_sets(synthetic, train, held_out, seed=0)
    assert matched.train.image_shape == (8, 8, 1)
    assert said(
        matched,
        "reference: resized from 12 x 16 to the data set's 8 x 8, which changes their proportions",
    )


@pytest.mark.parametrize("which", [0, 1, 2])
def test_too_few_images_are_refused(which: int) -> None:
    sets = list(three())
    sets[which] = sets[which].take(range(10))
    assert "10 images; expected 20 or more" in refused(*sets)
    sets = list(three())
    sets[which] = sets[which].take([*sets[which].rows_of(0), 1])
    assert "1 image of class 'dog'; expected 2 or more" in refused(*sets)


def test_how_many_were_taken_out_is_told_where_too_few_are_left() -> None:
    synthetic, train, held_out = three()
    small = held_out.take([0, 1, 2, 37, 38, 39])
    overlapping = joined(small, train.take(range(30)))
    assert "held-out data: 6 images left (taken out: 30 also in the reference); expected 20" in (
        refused(synthetic, train, overlapping)
    )
    some = joined(synthetic, held_out.take([*held_out.rows_of(0)[1:], held_out.rows_of(1)[0]]))
    message = refused(some, train, joined(held_out, train.take([0])))
    assert "1 image of class 'cat' left (taken out: 1 also in the reference and 20 also" in message


def test_images_too_small_to_show_anything_are_refused() -> None:
    sets = (image_set(20, shape=(8, 3, 1), seed=i, prefix=str(i)) for i in range(3))
    assert "data set: its images are 3 x 8 px; expected 4 px a side or more" in refused(*sets)


def test_a_reference_that_overlaps_the_held_out_data_is_named() -> None:
    synthetic, train, held_out = three(30)
    held_out = joined(held_out, train.take([4, 9]))
    assert overlap(train, held_out) == ("t4", "t9")
    matched = match_sets(synthetic, train, held_out, seed=0)
    assert len(matched.held_out) == 60
    assert said(matched, "2 held-out images are in the reference as well, left out: t4, t9")
    assert "every one of the 60 images is in the reference" in refused(synthetic, train, train)


def test_a_reference_that_overlaps_after_resizing_is_named() -> None:
    """A copy at twice the size has other pixels; shrunk it has the same again."""
    synthetic, train, held_out = three(30)
    flat = np.repeat(np.arange(60, dtype=np.uint8), 256).reshape(60, 16, 16, 1)
    train = replace(train, images=flat)
    held_out = joined(held_out, replace(train, images=flat[:, ::2, ::2]).take([7]))
    assert said(match_sets(synthetic, train, held_out, seed=0), "left out: t7")


def test_copies_of_the_reference_in_the_data_set_are_named_and_kept() -> None:
    synthetic, train, held_out = three()
    matched = match_sets(joined(synthetic, train.take([3])), train, held_out, seed=0)
    assert len(matched.synthetic) == 41
    assert said(matched, "1 image of the data set is a reference image, pixel by pixel: t3")


def test_nothing_is_both_learned_from_and_tested_on() -> None:
    synthetic, train, held_out = three()
    some = match_sets(joined(synthetic, held_out.take([3, 8])), train, held_out, seed=0)
    assert (len(some.synthetic), len(some.held_out)) == (42, 38)
    assert said(some, "2 held-out images are in the data set as well: h3, h8")
    itself = match_sets(held_out, train, held_out, seed=0)
    assert (len(itself.synthetic), len(itself.held_out)) == (20, 20)
    assert overlap(itself.synthetic, itself.held_out) == ()
    assert said(itself, "20 images of the held-out data and 20 images of the data set")


def test_without_held_out_data_a_share_of_each_class_is_held_out() -> None:
    reference = image_set(40, class_names=("a", "b", "c"))
    train, held_out, note = split_reference(reference, seed=3)
    assert held_out.counts().tolist() == [12, 12, 12]
    assert sorted((*train.names, *held_out.names)) == sorted(reference.names)
    assert "36 of the 120 reference images are held out" in note
    assert split_reference(reference, seed=3)[1].names == held_out.names
    assert split_reference(reference, seed=4)[1].names != held_out.names


def test_a_patient_is_never_on_both_sides() -> None:
    groups = tuple(f"p{i // 7}" for i in range(280))
    reference = image_set(140, groups=groups)
    train, held_out, note = split_reference(reference, seed=0)
    assert train.groups is not None
    assert held_out.groups is not None
    assert set(train.groups) & set(held_out.groups) == set()
    assert held_out.counts().tolist() == pytest.approx([42, 42], abs=4)
    assert "drawn by groups" in note
    one = replace(reference, groups=("p",) * 280)
    with pytest.raises(InputError, match="too few groups of class"):
        split_reference(one, seed=0)


def test_patients_on_both_sides_are_named() -> None:
    synthetic, train, held_out = three()
    train = replace(train, groups=tuple(f"p{i}" for i in range(40)))
    held_out = replace(held_out, groups=tuple(f"p{i + 38}" for i in range(40)))
    matched = match_sets(synthetic, train, held_out, seed=0)
    assert said(matched, "2 groups are in the reference and in the held-out data: p38, p39")
