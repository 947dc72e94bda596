"""Which jobs may go before all others: small ones alone, or one tenant's would starve the rest.

Called by jobs.py and schedules.py.
"""

from __future__ import annotations

from datagen.api.problems import field_problem
from datagen.submission import BATCH, INTERACTIVE

MAX_INTERACTIVE_IMAGES = 10_000


def check_priority(priority: str, num_images: int) -> None:
    """Raises RequestError."""
    if priority == INTERACTIVE and num_images > MAX_INTERACTIVE_IMAGES:
        expected = (
            f"{BATCH!r}: only jobs of at most {MAX_INTERACTIVE_IMAGES} images are interactive, and "
            f"this one has {num_images}"
        )
        raise field_problem("priority", priority, expected)
