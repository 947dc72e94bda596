"""Does adding a data set to real images help a model, and how many real labels is it worth?

docs/utility.md states the method.
"""

from datagen.evaluation.utility.command import CommandTrainer
from datagen.evaluation.utility.measurement import measure_utility

__all__ = ["CommandTrainer", "measure_utility"]
