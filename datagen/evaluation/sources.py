"""The former place of datagen.real_images. Imported by benchmarks/nearest_picture.py."""

from __future__ import annotations

from datagen.real_images import load_reference

__all__ = ["load_reference"]
