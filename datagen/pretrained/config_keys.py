"""Keys of configuration files that make diffusers or transformers load what nobody has checked:
code, kernels, or files and repositories other than those under their usual names.

Called by folder.py and by the pipeline family. Source: transformers 5.23, modeling_utils.py,
configuration_utils.py and tokenization_utils_base.py; diffusers 0.42, models/modeling_utils.py.
"""

from __future__ import annotations

from typing import Any

_CODE = ("auto_map", "custom_pipeline", "custom_pipelines", "custom_revision", "trust_remote_code")
_KERNELS = (
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
    *("experts_implementation", "_experts_implementation", "_experts_implementation_internal"),
)
_FILES = (
    *("transformers_weights", "configuration_files", "fast_tokenizer_files", "gguf_file"),
    *("adapter_config", "quantization_config", "kernel_config", "backbone_kwargs"),
    *("vocab_file", "merges_file", "tokenizer_file", "spm_file", "added_tokens_file"),
    *("sp_model_file", "sentencepiece_model_file", "emoji_file", "tokenizer_object"),
)
FORBIDDEN = frozenset((*_CODE, *_KERNELS, *_FILES))
_OWN_KERNELS = ("eager", "sdpa")  # of torch, none from the hub


def is_forbidden(key: str, value: Any) -> bool:
    """A value that says nothing, such as null, does no harm; code is not asked for even so."""
    if key not in FORBIDDEN:
        return False
    if key in _KERNELS:
        return bool(value) and value not in _OWN_KERNELS
    return bool(value)


def names_other_backbone(content: dict[str, Any]) -> bool:
    """Whether a network's backbone is looked up by its name at the hub, rather than described."""
    named = content.get("backbone")
    return (
        bool(named)
        and not content.get("backbone_config")
        and not (
            isinstance(named, str) and "/" not in named and content.get("use_timm_backbone") is True
        )
    )
