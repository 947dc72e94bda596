"""What was done costs, by the prices of the settings. Called by the API; forecast/ says what work
will cost."""

from __future__ import annotations

from dataclasses import dataclass

from datagen.settings import Settings

_HOUR_S = 3600.0
_GB = 1e9


@dataclass(frozen=True)
class Cost:
    """amount: of the device time, and of one month of the bytes."""

    device_seconds: float
    bytes: int
    amount: float
    currency: str


def cost_of(settings: Settings, *, device_seconds: float, num_bytes: int) -> Cost:
    device = device_seconds / _HOUR_S * settings.price_per_device_hour
    storage = num_bytes / _GB * settings.price_per_gb_month
    return Cost(device_seconds, num_bytes, device + storage, settings.currency)
