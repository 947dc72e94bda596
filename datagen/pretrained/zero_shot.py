"""Which of some texts an image fits best: CLIP and SigLIP. Called by filters/prompt_agreement.py.

What is checked and digested here needs no torch; open_matcher does.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from datagen.pretrained.folder import PretrainedFolder, check_kind, check_unchanged, open_folder

if TYPE_CHECKING:
    from datagen.pretrained.matching import TextMatcher

MODEL_TYPES = frozenset({"clip", "siglip"})
PURPOSE = "a CLIP-style network of images and texts"


def is_matcher(folder: PretrainedFolder) -> bool:
    return folder.model_type in MODEL_TYPES and folder.architecture.endswith("Model")


def find_matcher(path: Path) -> PretrainedFolder:
    """Raises ModelError if nothing is there, or it is no such network."""
    folder = open_folder(path, purpose=PURPOSE, has_tokenizer=True)
    check_kind(folder, MODEL_TYPES, ending="Model", purpose=PURPOSE)
    return folder


def open_matcher(found: PretrainedFolder, texts: tuple[str, ...]) -> TextMatcher:
    """Kept open, with the texts already read. Raises ModelError."""
    return _opened(found.path, found.sha256, texts)


@lru_cache(maxsize=2)
def _opened(path: Path, digest: str, texts: tuple[str, ...]) -> TextMatcher:
    from datagen.pretrained.matching import TextMatcher

    opened = TextMatcher(path, texts)
    check_unchanged(path, find_matcher(path).sha256, digest)
    return opened
