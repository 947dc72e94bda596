"""Class probabilities of pixels become objects: the connected parts of each class."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.detectors.findings import Detection
from datagen.label_shapes import split_mask


def parts(
    shares: NDArray[np.float32],
    places: Mapping[str, int],
    *,
    names: Sequence[str],
    threshold: float,
    min_pixels: int,
    max_objects: int,
) -> list[Detection]:
    """shares: (labels, H, W). places: class -> its label. names: of classes, first "background".

    A pixel is of the class whose label is the most probable there. An object is a connected part of
    min_pixels or more; its confidence the mean of its class's share over it. Of more than
    max_objects the surest stay; order is by class, then from the top left.
    """
    most = shares.argmax(axis=0)
    mask = np.zeros(most.shape, np.uint8)
    for name, place in places.items():
        mask[most == place] = names.index(name)
    instances, objects = split_mask(mask, names, min_pixels=min_pixels)
    found = []
    for number, each in enumerate(objects, start=1):
        region = instances == number
        confidence = float(shares[places[each.class_name]][region].mean(dtype=np.float64))
        if confidence >= threshold:
            found.append(Detection(each.class_name, each.box_xyxy, confidence, region))
    surest = set(
        heapq.nlargest(max_objects, range(len(found)), key=lambda i: (found[i].confidence, -i))
    )
    return [each for index, each in enumerate(found) if index in surest]
