"""Where the files lie that ship with the code. Called by catalog, resolve and the command line.

The wheel holds migrations/ and recipes/ inside the package; a checkout has them beside it.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def migrations_dir() -> Path:
    return _beside_or_inside("migrations")


def recipes_dir() -> Path:
    return _beside_or_inside("recipes")


def sample_data_dir() -> Path:
    """Real images that ship with the code, and NAME.json for each: see evaluation/named_data.py."""
    return recipes_dir() / "data"


def shipped_models_dir() -> Path:
    return _PACKAGE / "models"


def _beside_or_inside(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
