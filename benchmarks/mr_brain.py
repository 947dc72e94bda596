"""Brain MR slices: volumes cut up for training, and what synthetic slices with labels are worth.

    python benchmarks/mr_brain.py prepare --mricron DIR --out DATA
    python benchmarks/mr_brain.py evaluate --data DATA --synthetic FOLDER [--json FILE]

DIR: the templates of Debian's mricron-data (T1 `ch2bet`, atlas `aal`; BSD-3). The second head is
the ICBM152 template in nilearn's wheel (BSD-3). `prepare` writes blocks of slices as NIfTI volumes
under DATA/train and, of a contiguous block that is 10 mm away from them, DATA/held-out. FOLDER: a
data set of the recipe mr-brain-structures, pulled as `masks`.

What such a split cannot show: both heads are in both parts, and the structures of the second head
are the first one's atlas laid over it in standard space. A network that does well here knows these
two anatomies; of a third head it says nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import itertools

import numpy as np
from numpy.typing import NDArray

NAMES = (
    "background", "frontal", "parietal", "temporal", "occipital", "limbic", "deep-grey",
    "cerebellum", "white-matter", "fluid",
)  # fmt: skip
# Beginnings of the atlas's names, as aal.nii.txt has them.
GROUPS = {
    "frontal": ("Precentral", "Frontal", "Rolandic", "Supp_Motor", "Olfactory", "Rectus"),
    "parietal": ("Postcentral", "Parietal", "SupraMarginal", "Angular", "Precuneus", "Paracentral"),
    "temporal": ("Temporal", "Heschl", "Fusiform"),
    "occipital": ("Calcarine", "Cuneus", "Lingual", "Occipital"),
    "limbic": ("Insula", "Cingulum", "Hippocampus", "ParaHippocampal", "Amygdala"),
    "deep-grey": ("Caudate", "Putamen", "Pallidum", "Thalamus"),
    "cerebellum": ("Cerebelum", "Vermis"),
}
IN_PLANE_MM = 2.0
# Axial positions in standard space: what is held out, and the gap on both sides of it.
FIRST_MM, LAST_MM = -48, 76
HELD_OUT_MM, GAP_MM = (12, 32), 10


# --- prepare --------------------------------------------------------------------------------------


def prepare(mricron: Path, out: Path) -> None:
    import nibabel
    import nilearn

    templates = Path(nilearn.__file__).parent / "datasets/data"
    atlas = nibabel.load(mricron / "aal.nii.gz")
    lookup = _group_numbers(mricron / "aal.nii.txt")
    colin = nibabel.load(mricron / "ch2bet.nii.gz")
    icbm = nibabel.load(templates / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    tissue = sum(
        np.asarray(
            nibabel.load(
                templates / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
            ).dataobj,
            np.float32,
        )
        for kind in ("gm", "wm")
    )
    tissue = tissue / tissue.max()
    heads = {"colin": (colin, None), "icbm": (icbm, tissue)}
    for head, (volume, brain) in heads.items():
        num = _write_head(head, volume, brain, atlas, lookup, out)
        print(f"{head}: {num['train']} slices to train on, {num['held-out']} held out")


def _group_numbers(file: Path) -> NDArray[np.uint8]:
    """Number in the atlas => number of the structure."""
    lookup = np.zeros(256, np.uint8)
    for line in filter(str.strip, file.read_text().splitlines()):
        number, name, *_ = line.split()
        found = [g for g, starts in GROUPS.items() if name.startswith(starts)]
        if len(found) != 1:
            raise SystemExit(f"{file}: region {name}: in {found or 'no group'}")
        lookup[int(number)] = NAMES.index(found[0])
    return lookup


def _write_head(
    head: str, volume: object, brain: object, atlas: object, lookup: NDArray[np.uint8], out: Path
) -> dict[str, int]:
    """Blocks of axial slices: x and y in steps of IN_PLANE_MM, z in steps of 1 mm."""
    import nibabel
    from scipy.ndimage import affine_transform, gaussian_filter

    xs = np.arange(-95, 96, IN_PLANE_MM)
    ys = np.arange(-128, 95, IN_PLANE_MM)
    zs = np.arange(FIRST_MM, LAST_MM, 1.0)
    shape = (len(xs), len(ys), len(zs))
    affine = np.diag([IN_PLANE_MM, IN_PLANE_MM, 1.0, 1.0])
    affine[:3, 3] = xs[0], ys[0], zs[0]

    def resampled(values: NDArray, source: NDArray, order: int) -> NDArray:
        to_source = np.linalg.inv(source) @ affine
        return affine_transform(
            values, to_source[:3, :3], to_source[:3, 3], output_shape=shape, order=order
        )

    t1 = np.asarray(volume.dataobj, np.float32)
    steps = np.abs(np.diag(volume.affine)[:3])
    smooth = gaussian_filter(t1, [0.4 * IN_PLANE_MM / steps[0], 0.4 * IN_PLANE_MM / steps[1], 0])
    if brain is None:
        inside = resampled((t1 > 0).astype(np.float32), volume.affine, 1) > 0.5
    else:
        inside = resampled(np.asarray(brain, np.float32), volume.affine, 1) > 0.2
    image = np.clip(resampled(smooth, volume.affine, 1), 0, None) * inside
    image = np.clip(image * 230 / np.percentile(image[inside], 99), 0, 255).astype(np.uint8)
    regions = lookup[resampled(np.asarray(atlas.dataobj, np.uint8), atlas.affine, 0)]
    labels = np.where(inside, regions, 0).astype(np.uint8)
    rest = inside & (labels == 0)
    dark = image < 0.45 * np.median(image[rest])
    labels[rest & ~dark] = NAMES.index("white-matter")
    labels[rest & dark] = NAMES.index("fluid")

    written = {"train": 0, "held-out": 0}
    for part, name, first, last in _blocks():
        rows = (zs >= first) & (zs < last)
        block = affine.copy()
        block[2, 3] = first
        for kind, values in (("images", image), ("labels", labels)):
            folder = out / part / kind
            folder.mkdir(parents=True, exist_ok=True)
            saved = nibabel.Nifti1Image(np.ascontiguousarray(values[:, :, rows]), block)
            saved.header.set_xyzt_units("mm")
            nibabel.save(saved, folder / f"{head}-{name}.nii.gz")
        written[part] += int(rows.sum())
    return written


def _blocks() -> Iterator[tuple[str, str, int, int]]:
    """(part, name, first mm, end mm)."""
    low, high = HELD_OUT_MM
    yield "train", "below", FIRST_MM, low - GAP_MM
    yield "held-out", "middle", low, high
    yield "train", "above", high + GAP_MM, LAST_MM


# --- evaluate -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slices:
    """images, masks: (N, H, W) uint8."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def read_part(folder: Path, *, head: str | None = None) -> Slices:
    """As a training reads them."""
    from datagen.medical.nifti import as_grey, read_label_volume, read_volume, slices_of, window_of

    images, masks = [], []
    for path in sorted((folder / "images").glob(f"{head or ''}*.nii.gz")):
        volume = read_volume(path)
        labels = read_label_volume(folder / "labels" / path.name, like=volume)
        window = window_of(volume)
        images += [
            as_grey(each.values, window)[..., 0] for each in slices_of(volume, plane="axial")
        ]
        masks += [each.values.astype(np.uint8) for each in slices_of(labels, plane="axial")]
    return Slices(np.stack(images), np.stack(masks))


def read_synthetic(folder: Path) -> Slices:
    """A data set pulled as `masks`."""
    from PIL import Image

    values = json.loads((folder / "classes.json").read_text())
    order = np.zeros(256, np.uint8)
    for name, value in values.items():
        order[value] = NAMES.index(name)
    paths = sorted((folder / "images").rglob("*.png"))
    images = [np.asarray(Image.open(path).convert("L")) for path in paths]
    masks = [
        order[np.asarray(Image.open(folder / "masks" / path.relative_to(folder / "images")))]
        for path in paths
    ]
    return Slices(np.stack(images), np.stack(masks))


def train_segmenter(data: Slices, *, steps: int, seed: int):
    """A small U-Net, flipped and shifted copies, cross-entropy and Dice."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    network = unet(len(NAMES))
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = rng.integers(0, len(data.images), 8)
        images, masks = data.images[rows].copy(), data.masks[rows].copy()
        for i in range(len(rows)):
            if rng.random() < 0.5:
                images[i], masks[i] = images[i, :, ::-1], masks[i, :, ::-1]
            shift = tuple(rng.integers(-5, 6, 2))
            images[i] = np.roll(images[i], shift, (0, 1))
            masks[i] = np.roll(masks[i], shift, (0, 1))
        x = _input(images) * float(rng.uniform(0.9, 1.1))
        y = torch.from_numpy(masks.astype(np.int64))
        logits = network(x)
        probabilities = logits.softmax(1)
        target = F.one_hot(y, len(NAMES)).permute(0, 3, 1, 2).float()
        overlap = (probabilities * target).sum((0, 2, 3))
        size = (probabilities + target).sum((0, 2, 3))
        loss = F.cross_entropy(logits, y) + 1 - (2 * overlap / (size + 1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def unet(num_classes: int, widths: tuple[int, ...] = (16, 32, 64, 96)):
    import torch
    from torch import nn

    class Unet(nn.Module):
        def __init__(self) -> None:
            super().__init__()

            def block(first: int, last: int) -> nn.Sequential:
                layers = []
                for a, b in ((first, last), (last, last)):
                    layers += [nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(8, b), nn.SiLU()]
                return nn.Sequential(*layers)

            self.down = nn.ModuleList(block(a, b) for a, b in itertools.pairwise((1, *widths)))
            self.up = nn.ModuleList(block(a + b, a) for a, b in itertools.pairwise(widths))
            self.out = nn.Conv2d(widths[0], num_classes, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = []
            for level, block in enumerate(self.down):
                x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
                kept.append(x)
            for level in reversed(range(len(self.up))):
                x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
                x = self.up[level](torch.cat([x, kept[level]], 1))
            return self.out(x)

    return Unet().to(memory_format=torch.channels_last)


def _input(images: NDArray[np.uint8]):
    import torch

    x = torch.from_numpy(images.astype(np.float32))[:, None] / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def segment(network, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import torch

    with torch.inference_mode():
        parts = [
            network(_input(images[i : i + 32])).argmax(1).numpy() for i in range(0, len(images), 32)
        ]
    return np.concatenate(parts).astype(np.uint8)


def dice(found: NDArray[np.uint8], true: NDArray[np.uint8]) -> dict[str, float]:
    """Of each structure over all slices together; and their mean, of those that there are."""
    scores = {}
    for value, name in enumerate(NAMES[1:], 1):
        a, b = found == value, true == value
        if b.any():
            scores[name] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return {"mean": float(np.mean(list(scores.values()))), **scores}


def anatomy(masks: NDArray[np.uint8], real: NDArray[np.uint8]) -> dict[str, float]:
    """How plausible label maps are, beside real ones: pieces per structure, share of the brain,
    neighbours that no real map has, left beside right."""
    from scipy.ndimage import label

    def pieces(each: NDArray[np.uint8]) -> float:
        return float(np.mean([label(m == v)[1] for m in each for v in np.unique(m) if v]))

    def shares(each: NDArray[np.uint8]) -> NDArray[np.float64]:
        counts = np.stack([np.bincount(m.ravel(), minlength=len(NAMES))[1:] for m in each])
        return counts / np.maximum(1, counts.sum(1, keepdims=True))

    def pairs(each: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = np.zeros((len(NAMES), len(NAMES)))
        for m in each:
            for a, b in ((m[1:], m[:-1]), (m[:, 1:], m[:, :-1])):
                np.add.at(found, (np.minimum(a, b), np.maximum(a, b)), 1)
        np.fill_diagonal(found, 0)
        return found / found.sum()

    def asymmetry(each: NDArray[np.uint8]) -> float:
        half = each.shape[2] // 2
        left, right = (each[:, :, :half] > 0).sum((1, 2)), (each[:, :, -half:] > 0).sum((1, 2))
        return float(np.mean(np.abs(left - right) / np.maximum(1, left + right)))

    low, high = shares(real).min(0), shares(real).max(0)
    inside = (shares(masks) >= low - 1e-9) & (shares(masks) <= high + 1e-9)
    return {
        "pieces_per_structure": pieces(masks),
        "pieces_per_structure_real": pieces(real),
        "shares_within_real_range": float(inside.mean()),
        "borders_unknown_to_real": float(pairs(masks)[pairs(real) == 0].sum()),
        "left_right_asymmetry": asymmetry(masks),
        "left_right_asymmetry_real": asymmetry(real),
    }


def nearest_correlation(
    images: NDArray[np.uint8], others: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """(N,) of each image to the most alike of the others."""

    def unit(each: NDArray[np.uint8]) -> NDArray[np.float64]:
        flat = each.reshape(len(each), -1).astype(np.float64)
        flat -= flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    return (unit(images) @ unit(others).T).max(1)


def evaluate(data: Path, synthetic: Path, *, steps: int, seeds: int) -> dict[str, object]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    real, held_out = read_part(data / "train"), read_part(data / "held-out")
    made = read_synthetic(synthetic)
    rows: dict[str, list[float]] = {}
    per_structure: dict[str, dict[str, float]] = {}

    def note(name: str, found: dict[str, float]) -> None:
        rows.setdefault(name, []).append(found["mean"])
        per_structure[name] = found

    for seed in range(seeds):
        by_real = train_segmenter(real, steps=steps, seed=seed)
        note("real -> held-out real", dice(segment(by_real, held_out.images), held_out.masks))
        note("real -> synthetic", dice(segment(by_real, made.images), made.masks))
        by_made = train_segmenter(made, steps=steps, seed=seed)
        note("synthetic -> held-out real", dice(segment(by_made, held_out.images), held_out.masks))
        one = train_segmenter(read_part(data / "train", head="colin"), steps=steps, seed=seed)
        other = read_part(data / "held-out", head="icbm")
        note("real, one head -> the other", dice(segment(one, other.images), other.masks))
    means = {name: float(np.mean(values)) for name, values in rows.items()}
    return {
        "dice": means,
        "dice_by_seed": rows,
        "dice_by_structure": per_structure,
        "obeyed_over_real": means["real -> synthetic"] / means["real -> held-out real"],
        "synthetic_below_real": means["real -> held-out real"]
        - means["synthetic -> held-out real"],
        "anatomy": anatomy(made.masks, real.masks),
        "correlation_to_nearest_training_slice": {
            "synthetic": float(np.median(nearest_correlation(made.images, real.images))),
            "held_out": float(np.median(nearest_correlation(held_out.images, real.images))),
        },
        "num_images": {
            "train": len(real.images),
            "held_out": len(held_out.images),
            "synthetic": len(made.images),
        },
        "machine": platform.machine() + f", {os.cpu_count()} cores",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("prepare")
    one.add_argument("--mricron", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    two = commands.add_parser("evaluate")
    two.add_argument("--data", type=Path, required=True)
    two.add_argument("--synthetic", type=Path, required=True)
    two.add_argument("--steps", type=int, default=800)
    two.add_argument("--seeds", type=int, default=2)
    two.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.command == "prepare":
        prepare(given.mricron, given.out)
        return
    started = time.monotonic()
    found = evaluate(given.data, given.synthetic, steps=given.steps, seeds=given.seeds)
    text = json.dumps(found, indent=2)
    if given.json:
        given.json.write_text(text + "\n")
    print(text)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
