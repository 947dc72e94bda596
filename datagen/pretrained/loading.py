"""Networks, image processors and tokenizers out of folders that folder.py has checked: the one
place where transformers is asked to read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import ModelError

Image = NDArray[np.uint8]  # HWC, 1 or 3 channels
Part = Literal[
    "AutoModel",
    "AutoModelForImageClassification",
    "AutoModelForObjectDetection",
    "AutoModelForSemanticSegmentation",
    "AutoModelForUniversalSegmentation",
    "AutoModelForZeroShotObjectDetection",
    "StableDiffusionSafetyChecker",
]
_MISSING = "transformers is not installed; run: pip install 'datagen[lora]'"


def load_network(part: Part, folder: Path) -> Any:
    """In float32, evaluating, on this machine's GPU if it has one. Raises ModelError."""
    with told_of(folder):
        kind: Any
        if part == "StableDiffusionSafetyChecker":
            from diffusers.pipelines.stable_diffusion.safety_checker import (
                StableDiffusionSafetyChecker as kind,
            )
        else:
            import transformers

            kind = getattr(transformers, part)
        network, found = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **({} if part == "StableDiffusionSafetyChecker" else {"trust_remote_code": False}),
        )
    lacking = [*found["missing_keys"], *found["mismatched_keys"]]
    if lacking:
        raise ModelError(
            f"{folder}: {len(lacking)} tensors are missing or of another shape than config.json "
            f"says, such as {str(lacking[0])[:200]}; save the network again"
        )
    return network.eval().requires_grad_(False).to(device())


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_processor(folder: Path) -> Any:
    """What prepares images, by Pillow on every machine: with torchvision installed, transformers
    would take that, and pixels would differ. Raises ModelError."""
    with told_of(folder):
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )


def load_tokenizer(folder: Path) -> Any:
    """Raises ModelError."""
    with told_of(folder):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def prepare(processor: Any, image: Image, folder: Path) -> dict[str, torch.Tensor]:
    """The network's inputs for one image: (1, 3, H, W) float32 and what goes with it."""
    with told_of(folder):
        colour = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        inputs = processor(images=colour, return_tensors="pt", input_data_format="channels_last")
        return {name: value.to(device()) for name, value in inputs.items()}


@contextmanager
def told_of(folder: Path) -> Iterator[None]:
    """Raises ModelError: of files of the right kind with wrong contents, libraries raise almost
    anything, when they read them or when they are asked."""
    try:
        from transformers.utils import logging
    except ImportError:
        raise ModelError(f"{folder}: {_MISSING}") from None
    was_enabled, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder}: cannot be used ({reason}); save it again") from None
    finally:
        logging.set_verbosity(verbosity)
        if was_enabled:
            logging.enable_progress_bar()
