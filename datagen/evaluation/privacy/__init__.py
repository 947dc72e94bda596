"""Does a data set copy real images: near copies, positive controls, membership inference."""

from datagen.evaluation.privacy.measure import measure_privacy

__all__ = ["measure_privacy"]
