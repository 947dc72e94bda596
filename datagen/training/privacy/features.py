"""What a private release says of an image: a bounded vector, chosen without looking at the data.

Called by release.py (on real images) and matching.py (on generated ones, differentiably).
Two wavelet layers: Bruna & Mallat 2013 (arXiv 1203.1513), equation 14, J = 2, L = 8; private
learning on them: Tramer & Boneh 2021 (arXiv 2011.11660). Random Fourier features: Rahimi & Recht
2007, algorithm 1; private means of them: Harder et al. 2021 (DP-MERF, arXiv 2002.11603).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from datagen.errors import TrainingError

MAX_SIDE_PX = 32
_ANGLES = 8
_POOL = 4
# Squared norms of the parts: wavelets, their Fourier features, those of the pixels, the count.
_SHARES = (0.25, 0.40, 0.34, 0.01)
_NUM_WAVELET_FREQUENCIES, _NUM_PIXEL_FREQUENCIES = 2048, 1024
_WAVELET_SCALES, _PIXEL_SCALES = (0.25, 0.4, 0.8), (2.5, 5.0, 10.0)
_SEED = 0


class BoundedFeatures:
    """images (N, C, H, W) float32 in [0, 1] -> vectors of norm at most 1.

    The convolutions are dense matrices: with one channel in, those are several times faster on the
    CPU than convolution kernels (0.3 against 2 ms an image of 28 px).
    """

    def __init__(self, *, channels: int, image_size: tuple[int, int]) -> None:
        """Raises TrainingError if the images are too large for it."""
        height, width = image_size
        if max(image_size) > MAX_SIDE_PX or height % _POOL or width % _POOL:
            raise TrainingError(
                f"privacy: generator cgan trains privately on sides of multiples of {_POOL} up to "
                f"{MAX_SIDE_PX} pixels, not {height} x {width}: resize the images, or use edm"
            )
        self.channels, self.image_size = channels, image_size
        fine, coarse = gabor_bank(7, 3 * np.pi / 4, 0.8), gabor_bank(11, 3 * np.pi / 8, 1.6)
        first = [_matrix_of(bank, image_size) for bank in (fine, coarse)]
        self.first = torch.cat(first, dim=1).contiguous()
        self.second = _matrix_of(fine, (height // 2, width // 2))
        cells = (height // _POOL) * (width // _POOL)
        self.num_wavelets = channels * cells * (1 + 2 * _ANGLES + _ANGLES**2)
        rng = torch.Generator().manual_seed(_SEED)
        self.wavelet_frequencies = _frequencies(
            self.num_wavelets, _NUM_WAVELET_FREQUENCIES, _WAVELET_SCALES, rng
        )
        # In units of the typical distance between images of this many values.
        pixels = channels * height * width
        unit = math.sqrt(pixels / 784)
        self.pixel_frequencies = _frequencies(
            pixels, _NUM_PIXEL_FREQUENCIES, tuple(s * unit for s in _PIXEL_SCALES), rng
        )
        self.dim = self.num_wavelets + 2 * (_NUM_WAVELET_FREQUENCIES + _NUM_PIXEL_FREQUENCIES) + 1

    def wavelets(self, images: torch.Tensor) -> torch.Tensor:
        """(N, num_wavelets), of norm at most 1: four groups, each centred and scaled by image."""
        num = len(images) * self.channels
        height, width = self.image_size
        flat = images.reshape(num, 1, height, width)
        low = F.avg_pool2d(flat, _POOL)
        first = _modulus(flat.flatten(1) @ self.first, 2 * _ANGLES)
        grid = first.view(num, 2 * _ANGLES, height // 2, width // 2)
        second = _modulus(first[:, :_ANGLES].reshape(num * _ANGLES, -1) @ self.second, _ANGLES)
        pooled = F.avg_pool2d(grid, 2)
        groups = (low, pooled[:, :_ANGLES], pooled[:, _ANGLES:], second)
        scaled = [_unit(group.reshape(len(images), -1)) for group in groups]
        joined: torch.Tensor = torch.cat(scaled, dim=1) / math.sqrt(len(groups))
        return joined

    def embed(self, images: torch.Tensor, wavelets: torch.Tensor) -> torch.Tensor:
        """(N, dim), of norm at most 1; the last value is the same for every image: it counts."""
        a, b, c, d = (math.sqrt(share) for share in _SHARES)
        parts = (
            a * wavelets,
            b * _fourier(wavelets, self.wavelet_frequencies),
            c * _fourier(images.flatten(1), self.pixel_frequencies),
            torch.full((len(images), 1), d),
        )
        return torch.cat(parts, dim=1)

    def means(self, sums: torch.Tensor) -> torch.Tensor:
        """(K, dim) sums => (K, dim - 1) means, by the counts that the sums hold."""
        counts = (sums[:, -1:] / math.sqrt(_SHARES[-1])).clamp(min=1.0)
        means: torch.Tensor = sums[:, :-1] / counts
        return means


def gabor_bank(size: int, frequency: float, sigma: float) -> torch.Tensor:
    """(2 * angles, 1, size, size): real and imaginary parts of Morlet wavelets of mean zero."""
    r = np.arange(size) - (size - 1) / 2
    yy, xx = np.meshgrid(r, r, indexing="ij")
    kernels = []
    for angle in np.arange(_ANGLES) * np.pi / _ANGLES:
        along = xx * np.cos(angle) + yy * np.sin(angle)
        across = -xx * np.sin(angle) + yy * np.cos(angle)
        window = np.exp(-(along**2 + 0.25 * across**2) / (2 * sigma**2))
        wave = np.exp(1j * frequency * along)
        wavelet = window * (wave - (window * wave).sum() / window.sum())
        wavelet /= np.abs(wavelet).sum()
        kernels += [wavelet.real, wavelet.imag]
    return torch.from_numpy(np.stack(kernels).astype(np.float32))[:, None]


def _matrix_of(bank: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(H*W, K*H/2*W/2): the zero-padded convolution of stride 2."""
    height, width = size
    impulses = torch.eye(height * width).view(-1, 1, height, width)
    return F.conv2d(impulses, bank, padding=bank.shape[-1] // 2, stride=2).flatten(1)


def _modulus(waves: torch.Tensor, num: int) -> torch.Tensor:
    """(N, num * 2 * P) real and imaginary parts => (N, num, P)."""
    squares = waves.view(len(waves), num, 2, -1).float().square().sum(2)
    moduli: torch.Tensor = (squares + 1e-8).sqrt()
    return moduli


def _unit(group: torch.Tensor) -> torch.Tensor:
    centred = group - group.mean(1, keepdim=True)
    scaled: torch.Tensor = centred / (centred.norm(dim=1, keepdim=True) + 1e-2)
    return scaled


def _frequencies(
    dim: int, num: int, scales: tuple[float, ...], rng: torch.Generator
) -> torch.Tensor:
    """(dim, num): of Gaussian kernels of these scales in turn."""
    widths = torch.tensor(scales)[torch.arange(num) % len(scales)]
    return torch.randn(dim, num, generator=rng) / widths


def _fourier(values: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    phases = (values @ frequencies).float()
    return torch.cat([phases.cos(), phases.sin()], dim=1) / math.sqrt(frequencies.shape[1])
