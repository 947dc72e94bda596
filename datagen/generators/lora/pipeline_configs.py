"""The parts of a diffusers pipeline's configurations that decide whether and how it is used.

Torch-free. The libraries read these files again; here they are bounded first, since a mistyped or
hostile one could make them build anything. Called by pipeline_files.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_IGNORE = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)
# They make the libraries load code or other weights than those beside the configuration.
_FORBIDDEN_KEYS = (
    *("auto_map", "quantization_config", "adapter_config", "custom_pipelines"),
    "transformers_weights",
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
)

_Channels = Annotated[int, Field(strict=True, ge=1, le=8192)]
_Layers = Annotated[int, Field(strict=True, ge=1, le=16)]


class _Config(BaseModel):
    model_config = _IGNORE

    @model_validator(mode="before")
    @classmethod
    def _without_code(cls, content: Any) -> Any:
        for key in _FORBIDDEN_KEYS:
            if isinstance(content, dict) and content.get(key):
                raise ValueError(f"{key} is not allowed")
        return content


class PipelineIndex(_Config):
    """model_index.json: the classes, of which only these are ever built."""

    pipeline: Literal["StableDiffusionPipeline", "StableDiffusionXLPipeline"] = Field(
        alias="_class_name"
    )
    unet: tuple[Literal["diffusers"], Literal["UNet2DConditionModel"]]
    vae: tuple[Literal["diffusers"], Literal["AutoencoderKL"]]
    text_encoder: tuple[Literal["transformers"], Literal["CLIPTextModel"]]
    tokenizer: tuple[Literal["transformers"], Literal["CLIPTokenizer", "CLIPTokenizerFast"]]
    scheduler: tuple[Literal["diffusers"], str]
    text_encoder_2: (
        tuple[Literal["transformers"], Literal["CLIPTextModelWithProjection"]] | None
    ) = None
    tokenizer_2: (
        tuple[Literal["transformers"], Literal["CLIPTokenizer", "CLIPTokenizerFast"]] | None
    ) = None
    force_zeros_for_empty_prompt: bool = True

    @property
    def is_xl(self) -> bool:
        return self.pipeline == "StableDiffusionXLPipeline"


class NoiseSchedule(_Config):
    """scheduler_config.json: the noise that the UNet was trained with. Its sampler is not used."""

    num_train_timesteps: int = Field(default=1000, strict=True, ge=1000, le=10_000)
    beta_start: float = Field(default=0.0001, gt=0, lt=1)
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    trained_betas: None = None
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    rescale_betas_zero_snr: bool = False


class UnetConfig(_Config):
    """unet/config.json."""

    class_name: Literal["UNet2DConditionModel"] = Field(alias="_class_name")
    in_channels: _Channels = 4
    out_channels: _Channels = 4
    block_out_channels: tuple[_Channels, ...] = Field(
        default=(320, 640, 1280, 1280), min_length=1, max_length=8
    )
    layers_per_block: _Layers | tuple[_Layers, ...] = 2
    transformer_layers_per_block: _Layers | tuple[_Layers, ...] = 1
    cross_attention_dim: _Channels = 1280
    class_embed_type: None = None
    num_class_embeds: None = None
    addition_embed_type: Literal["text_time"] | None = None
    addition_time_embed_dim: _Channels | None = None
    projection_class_embeddings_input_dim: _Channels | None = None
    encoder_hid_dim_type: None = None
    time_cond_proj_dim: None = None


class VaeConfig(_Config):
    """vae/config.json."""

    class_name: Literal["AutoencoderKL"] = Field(alias="_class_name")
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: _Channels = 4
    block_out_channels: tuple[_Channels, ...] = Field(default=(64,), min_length=1, max_length=8)
    layers_per_block: _Layers = 1
    scaling_factor: float = Field(default=0.18215, gt=0, le=100)
    shift_factor: None = None

    @property
    def factor(self) -> int:
        """Pixels of an image's side for one of the latents'."""
        return int(2 ** (len(self.block_out_channels) - 1))


class TextConfig(_Config):
    """text_encoder/config.json and that of text_encoder_2; the defaults are transformers'."""

    model_type: Literal["clip_text_model"]
    vocab_size: int = Field(default=49408, strict=True, ge=1, le=1_000_000)
    hidden_size: _Channels = 512
    projection_dim: _Channels = 512
    intermediate_size: int = Field(default=2048, strict=True, ge=1, le=65_536)
    num_hidden_layers: int = Field(default=12, strict=True, ge=1, le=64)
    max_position_embeddings: int = Field(default=77, strict=True, ge=2, le=1024)
