"""What a recipe will cost: units, shards, bytes, time and money, before anything is made.

Called by `datagen plan` and the API. Nothing here grows with the number of images.
costs.py measures a finished job as rates; pilot.py makes a small job to measure; refills.py says
how many attempts and rounds a recipe's rejections mean; estimate.py puts the three together.
"""

from __future__ import annotations

from datagen.forecast.estimate import Cost, Forecast, forecast
from datagen.forecast.pilot import Pilot, run_pilot

__all__ = ["Cost", "Forecast", "Pilot", "forecast", "run_pilot"]
