"""Trains on a few dozen colour pictures of each of five kinds: Tux Paint's stamps, at 64 px.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default*.deb stamps
    python benchmarks/stamps.py --stamps stamps --out OUT [--max-seconds S]

writes OUT/images (one folder of PNG files for each kind, on white, padded to squares), trains
benchmarks/stamps.yaml on them, and prints what its watch on copies says. The pictures are under the
GPL-2: they are used, not shipped. Run again with the same OUT, it goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from datagen.generators.model_directory import Model
from datagen.training.model_recipe import load_model_recipe
from datagen.training.session import cpu_name, train_model

KINDS = {
    "bird": "animals/birds",
    "food": "food",
    "mammal": "animals/mammals",
    "plant": "plants",
    "town": "town",
}
SIDE_PX = 256  # the recipe makes them 64 px, with its antialiased filter
RECIPE = Path(__file__).with_name("stamps.yaml")


def write_images(stamps: Path, folder: Path) -> dict[str, int]:
    """Returns how many of each kind."""
    counts = {}
    for kind, place in KINDS.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        paths = sorted((stamps / "usr/share/tuxpaint/stamps" / place).rglob("*.png"))
        for path in paths:
            with Image.open(path) as picture:
                picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
                square = Image.new("RGBA", (max(picture.size),) * 2, "white")
                corner = tuple((square.width - side) // 2 for side in picture.size)
                square.alpha_composite(picture.convert("RGBA"), corner)
                name = "-".join(path.relative_to(stamps).parts[-2:])
                square.convert("RGB").save(folder / kind / name)
        counts[kind] = len(paths)
    return counts


def print_figures(model: Model) -> None:
    training = model.facts.training
    assert training is not None
    print(f"{training.images_seen:,} images seen in {training.seconds:,.0f} s on {training.device}")
    print(f"kept: after {training.best_images_seen:,}; {training.stopped or 'ran to its end'}")
    for name, value in training.figures.items():
        print(f"  {name:14} {value:.4g}")
    print(f"  kid_real       {training.kid_real}")
    for warning in training.warnings:
        print(f"  {warning}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stamps", type=Path, required=True, help="the unpacked package")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-seconds", type=float, help="of training, in this call")
    arguments = parser.parse_args()
    images = arguments.out / "images"
    if not images.exists():
        print(f"images: {write_images(arguments.stamps, images)}")
    print(f"machine: {cpu_name()}", flush=True)
    number = 1 + len(list(arguments.out.glob("model-*")))
    model = train_model(
        load_model_recipe(RECIPE),
        out=arguments.out / f"model-{number}",
        work=arguments.out / "training",
        data=images,
        max_seconds=arguments.max_seconds,
    )
    print_figures(model)


if __name__ == "__main__":
    main()
