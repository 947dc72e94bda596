"""Real and synthetic images in, from folders, IDX files, arrays and pulled data sets."""

from datagen.real_images.load import load_image_set, load_reference

__all__ = ["load_image_set", "load_reference"]
