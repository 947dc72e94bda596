from __future__ import annotations

from importlib.metadata import version as installed_version

from datagen.fingerprint import version


def test_a_library_that_is_not_installed_has_a_version_too() -> None:
    """A worker without an extra lists its queues all the same, and shares none that needs it."""
    assert version("no-such-distribution") == "none"
    assert version("numpy") == installed_version("numpy")
