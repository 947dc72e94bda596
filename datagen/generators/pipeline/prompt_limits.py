"""How long a prompt may be: counted with the pipeline's own tokenizers. Torch-free at load.

Called by spec.py, for all prompts of a recipe, and by the sampler: none is cut unsaid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from datagen.errors import ModelError
from datagen.generators.pipeline.part_configs import part_config
from datagen.generators.pipeline.request import OpenedPipeline


@dataclass(frozen=True)
class _Limit:
    """Of one text encoder. part: its tokenizer's component; num_tokens: with those that stand at
    the ends."""

    part: str
    class_name: str
    num_tokens: int


def check_lengths(opened: OpenedPipeline, texts: Sequence[str]) -> None:
    """Raises ModelError naming a text that is longer than an encoder takes, and the limit.

    An encoder of CLIP beside one of T5 reads the first of a text alone where the recipe sets
    max_sequence_length: then that is the limit.
    """
    vectors = {
        token: max((shape[0] for shape in inversion.shapes.values() if len(shape) == 2), default=1)
        for inversion, token in opened.inversions
    }
    for limit in _limits(opened):
        path = opened.folder.folder / limit.part
        tokenizer = _tokenizer(limit.class_name, path, opened.folder.sha256, tuple(vectors))
        for text in texts:
            count = len(tokenizer(text, truncation=False, verbose=False).input_ids)
            count += sum(text.count(token) * (num - 1) for token, num in vectors.items())
            if count > limit.num_tokens:
                raise ModelError(
                    f"prompt {text[:200]!r} has {count} tokens; the {limit.part} of the pipeline "
                    f"takes at most {limit.num_tokens}, and nothing is cut unsaid: shorten it"
                )


def _limits(opened: OpenedPipeline) -> Iterator[_Limit]:
    length, asked = opened.call.sequence_length, opened.options.max_sequence_length
    for part, (_, class_name) in opened.folder.components.items():
        if "tokenizer" not in part:
            continue
        if not class_name.startswith("CLIPTokenizer"):
            yield _Limit(part, class_name, asked or length or 77)
        elif asked is None or opened.call.words not in ("sd3", "flux"):
            yield _Limit(part, class_name, _clip_length(opened, part))


def _clip_length(opened: OpenedPipeline, part: str) -> int:
    encoder = part_config(opened.folder, part.replace("tokenizer", "text_encoder"))
    inner = encoder.get("text_config", encoder)
    length = inner.get("max_position_embeddings", 77) if isinstance(inner, dict) else 77
    return length if isinstance(length, int) else 77


@lru_cache(maxsize=8)
def _tokenizer(class_name: str, path: Path, sha256: str, tokens: tuple[str, ...]) -> Any:
    """sha256: of the pipeline, so that other files there are read anew."""
    import transformers

    try:
        tokenizer = getattr(transformers, class_name).from_pretrained(path, local_files_only=True)
        tokenizer.add_tokens(list(tokens))
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"pipeline folder {path}: cannot be loaded ({reason}); save the pipeline again"
        ) from None
    return tokenizer
