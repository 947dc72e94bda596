"""Typed options of the latent-edm family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from pydantic import Field

from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions, Width


class LatentNetwork(EdmNetwork):
    """Sizes of both networks. autoencoder_widths: each but the first halves the image's sides.

    The rest is of the denoiser, as in EdmNetwork; norm_num_groups is of both. Latents are scaled to
    a standard deviation of sigma_data.
    """

    patch_px: int = Field(
        default=1, ge=1, le=8, strict=True, description="a whole number of latents from 1 to 8"
    )
    autoencoder_widths: tuple[Width, ...] = Field(
        default=(32, 64, 128),
        min_length=2,
        max_length=5,
        description="2 to 5 whole numbers from 1 to 1024, such as [32, 64, 128]",
    )
    latent_channels: int = Field(
        default=4, ge=1, le=64, strict=True, description="a whole number from 1 to 64"
    )


class LatentObjectiveOptions(EdmObjectiveOptions):
    """What a model recipe may set when it trains both: the options of edm, and the autoencoder's.

    autoencoder_images: so many images train the autoencoder; the denoiser learns after that. The
    second half of them also trains a discriminator of patches, whose share of the gradient is
    adversarial_weight. kl_weight: of nats per latent, beside the mean absolute error of a pixel;
    perceptual_weight: of the distance of features, likewise.
    statistics_images: by so many the latents' mean and deviation are measured.
    """

    autoencoder_images: int = Field(
        default=500_000,
        ge=0,
        le=10**12,
        description="a whole number of images; 0 only with init, to keep that autoencoder",
    )
    statistics_images: int = Field(
        default=4096, ge=2, le=10**9, description="a whole number of images, 2 or more"
    )
    kl_weight: float = Field(default=1e-4, ge=0, le=1, description="a number from 0 to 1")
    perceptual_weight: float = Field(
        default=0.5, ge=0, le=10, description="a number from 0 to 10; 0 compares no features"
    )
    adversarial_weight: float = Field(
        default=0.5, ge=0, le=10, description="a number from 0 to 10; 0 trains no discriminator"
    )
