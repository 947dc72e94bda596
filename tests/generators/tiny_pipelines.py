"""Every family of diffusers pipelines, tiny and of random weights, as save_pretrained writes them.
Images are 16 pixels a side, letters are tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SIDE = 16
CLIP_LENGTH = 24
CLIP_WIDTH, T5_WIDTH = 8, 16
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CLIP_TOKENS = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<start>", "<end>"]
_CLIP_VOCABULARY = {token: index for index, token in enumerate(_CLIP_TOKENS)}
_T5_VOCABULARY = [
    *(("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)),
    *((letter, -3.0) for letter in _LETTERS),
]
_GEMMA_VOCABULARY = {
    token: index for index, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "▁", *_LETTERS])
}


def save_tiny(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """kind: one of PIPELINES, or of CONTROLNETS."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of classes that diffusers will drop
        torch.manual_seed(seed)
        built = (PIPELINES | CONTROLNETS)[kind]()
        for part in _networks(built):
            _wake(part)
        built.save_pretrained(folder)
    return folder


def _networks(built: Any) -> list[torch.nn.Module]:
    if isinstance(built, torch.nn.Module):
        return [built]
    return [part for part in built.components.values() if isinstance(part, torch.nn.Module)]


def _wake(network: torch.nn.Module) -> None:
    """Layers that start at zero would hide what they are told."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.2)


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer(
        _CLIP_VOCABULARY,
        [],
        unk_token="<end>",
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<end>",
        model_max_length=CLIP_LENGTH,
    )


def _clip(kind: str = "CLIPTextModel") -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=len(_CLIP_VOCABULARY),
        hidden_size=CLIP_WIDTH,
        projection_dim=CLIP_WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CLIP_LENGTH,
        bos_token_id=_CLIP_VOCABULARY["<start>"],
        eos_token_id=_CLIP_VOCABULARY["<end>"],
        pad_token_id=_CLIP_VOCABULARY["<end>"],
        initializer_factor=20.0,
    )
    return getattr(transformers, kind)(config)


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=_T5_VOCABULARY, extra_ids=0, model_max_length=32)


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(_T5_VOCABULARY),
            d_model=T5_WIDTH,
            d_kv=4,
            d_ff=16,
            num_layers=2,
            num_heads=2,
            initializer_factor=1.0,
        )
    )


def _vae(**changes: Any) -> Any:
    """Of factor 2."""
    from diffusers import AutoencoderKL

    sizes: dict[str, Any] = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "sample_size": SIDE,
        "force_upcast": False,
    }
    return AutoencoderKL(**(sizes | changes))


def _vq() -> Any:
    """Of factor 2, with three channels of latents, and of embeddings."""
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=3,
        num_vq_embeddings=16,
    )


def _movq() -> Any:
    """Kandinsky's, of factor 2."""
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_type="spatial",
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=16,
    )


def _unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    sizes: dict[str, Any] = {
        "sample_size": SIDE // 2,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": CLIP_WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**(sizes | changes))


_XL_UNET = {
    "cross_attention_dim": 2 * CLIP_WIDTH,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": CLIP_WIDTH + 6 * 4,
}
_V_UNET = {"use_linear_projection": True}


def _ddim(**changes: Any) -> Any:
    from diffusers import DDIMScheduler

    settings: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "steps_offset": 1,
    }
    return DDIMScheduler(**(settings | changes))


def _flow() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler()


def _sd(**changes: Any) -> Any:
    from diffusers import StableDiffusionPipeline

    parts: dict[str, Any] = {
        "vae": _vae(),
        "text_encoder": _clip(),
        "tokenizer": clip_tokenizer(),
        "unet": _unet(),
        "scheduler": _ddim(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    return StableDiffusionPipeline(**(parts | changes))


def _sd2() -> Any:
    return _sd(unet=_unet(**_V_UNET), scheduler=_ddim(prediction_type="v_prediction"))


def _xl() -> Any:
    from diffusers import StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip(),
        text_encoder_2=_clip("CLIPTextModelWithProjection"),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=_unet(**_XL_UNET),
        scheduler=_ddim(),
        add_watermarker=False,
    )


_SD3_SIZES: dict[str, Any] = {
    "sample_size": SIDE // 2,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 2,  # the last one is never controlled
    "attention_head_dim": 4,
    "num_attention_heads": 2,
    "joint_attention_dim": 2 * CLIP_WIDTH,
    "caption_projection_dim": 8,
    "pooled_projection_dim": 2 * CLIP_WIDTH,
    "out_channels": 16,
    "pos_embed_max_size": 8,
}


def _sd3() -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(**_SD3_SIZES),
        scheduler=_flow(),
        vae=_vae(latent_channels=16, shift_factor=0.1, scaling_factor=1.5),
        text_encoder=_clip("CLIPTextModelWithProjection"),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_clip("CLIPTextModelWithProjection"),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=_t5(),
        tokenizer_3=_t5_tokenizer(),
    )


_FLUX_SIZES: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 1,
    "joint_attention_dim": T5_WIDTH,
    "pooled_projection_dim": CLIP_WIDTH,
    "guidance_embeds": True,
    "axes_dims_rope": (2, 2, 4),
}


def _flux() -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    return FluxPipeline(
        scheduler=_flow(),
        vae=_vae(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=_clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=_t5_tokenizer(),
        transformer=FluxTransformer2DModel(**_FLUX_SIZES),
    )


def _upscale() -> Any:
    from diffusers import DDPMScheduler, StableDiffusionUpscalePipeline

    return StableDiffusionUpscalePipeline(
        vae=_vae(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
        ),
        text_encoder=_clip(),
        tokenizer=clip_tokenizer(),
        unet=_unet(in_channels=7, num_class_embeds=1000),
        low_res_scheduler=DDPMScheduler(),
        scheduler=_ddim(),
        max_noise_level=350,
    )


def _latent_upscale() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionLatentUpscalePipeline

    return StableDiffusionLatentUpscalePipeline(
        vae=_vae(),
        text_encoder=_clip(),
        tokenizer=clip_tokenizer(),
        unet=_unet(
            in_channels=8,
            out_channels=5,
            time_cond_proj_dim=128 + CLIP_WIDTH,
            resnet_time_scale_shift="scale_shift",
            time_embedding_type="fourier",
            timestep_post_act="gelu",
            act_fn="gelu",
        ),
        scheduler=EulerDiscreteScheduler(prediction_type="sample"),
    )


def _pixels_unet(channels: int, out_channels: int) -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=SIDE,
        in_channels=channels,
        out_channels=out_channels,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


def _super_resolution() -> Any:
    from diffusers import LDMSuperResolutionPipeline

    return LDMSuperResolutionPipeline(
        vqvae=_vq(), unet=_pixels_unet(6, 3), scheduler=_ddim(steps_offset=0)
    )


def _ddpm() -> Any:
    from diffusers import DDPMPipeline, DDPMScheduler

    return DDPMPipeline(_pixels_unet(3, 3), DDPMScheduler())


def _ddim_pipeline() -> Any:
    from diffusers import DDIMPipeline

    return DDIMPipeline(_pixels_unet(1, 1), _ddim(steps_offset=0))


def _pndm() -> Any:
    from diffusers import PNDMPipeline, PNDMScheduler

    return PNDMPipeline(_pixels_unet(3, 3), PNDMScheduler())


def _ldm() -> Any:
    from diffusers import LDMPipeline

    return LDMPipeline(_vq(), _pixels_unet(3, 3), _ddim(steps_offset=0))


def _lcm() -> Any:
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    return LatentConsistencyModelPipeline(
        vae=_vae(),
        text_encoder=_clip(),
        tokenizer=clip_tokenizer(),
        unet=_unet(time_cond_proj_dim=8),
        scheduler=LCMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _flux_control() -> Any:
    from diffusers import FluxControlPipeline, FluxTransformer2DModel

    parts = _flux().components
    for name in ("image_encoder", "feature_extractor"):
        parts.pop(name, None)
    sizes = _FLUX_SIZES | {"in_channels": 32, "out_channels": 16}
    return FluxControlPipeline(**(parts | {"transformer": FluxTransformer2DModel(**sizes)}))


def _flux_fill() -> Any:
    """Its transformer is shown the picture and, for each token, sixteen pixels of the hole."""
    from diffusers import FluxFillPipeline, FluxTransformer2DModel

    parts = _flux().components
    for name in ("image_encoder", "feature_extractor"):
        parts.pop(name, None)
    sizes = _FLUX_SIZES | {"in_channels": 48, "out_channels": 16}
    return FluxFillPipeline(**(parts | {"transformer": FluxTransformer2DModel(**sizes)}))


def _pix2pix() -> Any:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    parts = _sd().components | {"unet": _unet(in_channels=8)}
    return StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)


def _dit() -> Any:
    from diffusers import DiTPipeline, DiTTransformer2DModel

    return DiTPipeline(
        transformer=DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=4,
            out_channels=8,
            num_layers=1,
            sample_size=SIDE // 2,
            patch_size=2,
            norm_num_groups=4,
            num_embeds_ada_norm=1000,
        ),
        vae=_vae(),
        scheduler=_ddim(),
        id2label={0: "disc", 1: "ring, annulus", 2: "bar"},
    )


def _pixart(kind: str) -> Any:
    import diffusers

    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=8,
        sample_size=SIDE // 2,
        patch_size=2,
        norm_num_groups=4,
        caption_channels=T5_WIDTH,
        use_additional_conditions=False,
    )
    return getattr(diffusers, kind)(
        tokenizer=_t5_tokenizer(),
        text_encoder=_t5(),
        vae=_vae(),
        transformer=transformer,
        scheduler=_ddim(),
    )


def _gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizer

    return GemmaTokenizer(vocab=_GEMMA_VOCABULARY, merges=[])


def _sana() -> Any:
    from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model

    return SanaPipeline(
        tokenizer=_gemma_tokenizer(),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=len(_GEMMA_VOCABULARY),
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=4,
            )
        ),
        vae=AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types="ResBlock",
            decoder_block_types="ResBlock",
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
        ),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=4,
            num_layers=1,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=SIDE,
            patch_size=1,
        ),
        scheduler=_flow(),
    )


def _deepfloyd(**changes: Any) -> dict[str, Any]:
    from diffusers import DDPMScheduler

    sizes: dict[str, Any] = {
        "sample_size": SIDE,
        "in_channels": 3,
        "out_channels": 6,
        "encoder_hid_dim": T5_WIDTH,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_dim": 8,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }
    return {
        "tokenizer": _t5_tokenizer(),
        "text_encoder": _t5(),
        "unet": _unet(**(sizes | changes)),
        "scheduler": DDPMScheduler(variance_type="learned_range", thresholding=True),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }


def _if() -> Any:
    from diffusers import IFPipeline

    return IFPipeline(**_deepfloyd())


def _if_upscale() -> Any:
    from diffusers import DDPMScheduler, IFSuperResolutionPipeline

    return IFSuperResolutionPipeline(
        **_deepfloyd(in_channels=6, class_embed_type="timestep"),
        image_noising_scheduler=DDPMScheduler(),
    )


def _prior() -> Any:
    from diffusers import PriorTransformer

    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=4,
        num_layers=1,
        embedding_dim=CLIP_WIDTH,
        num_embeddings=CLIP_LENGTH,
        additional_embeddings=4,
    )


def _unclip_scheduler() -> Any:
    from diffusers import UnCLIPScheduler

    return UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
    )


def _kandinsky() -> Any:
    from diffusers import KandinskyV22CombinedPipeline
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = CLIPVisionConfig(
        hidden_size=8,
        projection_dim=CLIP_WIDTH,
        image_size=SIDE,
        patch_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return KandinskyV22CombinedPipeline(
        unet=_kandinsky_unet(4),
        scheduler=_ddim(),
        movq=_movq(),
        prior_prior=_prior(),
        prior_image_encoder=CLIPVisionModelWithProjection(vision),
        prior_text_encoder=_clip("CLIPTextModelWithProjection"),
        prior_tokenizer=clip_tokenizer(),
        prior_scheduler=_unclip_scheduler(),
        prior_image_processor=CLIPImageProcessor(size=SIDE, crop_size=SIDE),
    )


def _kandinsky_unet(in_channels: int) -> Any:
    return _unet(
        in_channels=in_channels,
        out_channels=8,
        addition_embed_type="image",
        encoder_hid_dim=CLIP_WIDTH,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=CLIP_WIDTH,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
    )


def _kandinsky_inpaint() -> Any:
    """The same components, with a UNet that is shown the picture and the hole."""
    built = _kandinsky()
    from diffusers import KandinskyV22InpaintCombinedPipeline

    return KandinskyV22InpaintCombinedPipeline(**(built.components | {"unet": _kandinsky_unet(9)}))


def _unclip() -> Any:
    from diffusers import UnCLIPPipeline
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel

    scheduler = _unclip_scheduler()
    return UnCLIPPipeline(
        prior=_prior(),
        decoder=_unet(
            sample_size=SIDE // 2,
            in_channels=3,
            out_channels=6,
            class_embed_type="identity",
            block_out_channels=(8, 8),
            cross_attention_dim=8,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            resnet_time_scale_shift="scale_shift",
        ),
        text_encoder=_clip("CLIPTextModelWithProjection"),
        tokenizer=clip_tokenizer(),
        text_proj=UnCLIPTextProjModel(
            clip_embeddings_dim=CLIP_WIDTH, time_embed_dim=32, cross_attention_dim=8
        ),
        super_res_first=_pixels_unet(6, 3),
        super_res_last=_pixels_unet(6, 3),
        prior_scheduler=scheduler,
        decoder_scheduler=_unclip_scheduler_of("learned_range"),
        super_res_scheduler=_unclip_scheduler_of("fixed_small_log"),
    )


def _unclip_scheduler_of(variance_type: str) -> Any:
    from diffusers import UnCLIPScheduler

    return UnCLIPScheduler(variance_type=variance_type, num_train_timesteps=1000)


def _controlnet(unet: Any) -> Any:
    from diffusers import ControlNetModel

    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))


def _controlnet_sd3() -> Any:
    from diffusers import SD3ControlNetModel

    return SD3ControlNetModel(**_SD3_SIZES)


def _controlnet_flux() -> Any:
    from diffusers import FluxControlNetModel

    return FluxControlNetModel(**_FLUX_SIZES)


CONTROLNETS: dict[str, Callable[[], Any]] = {
    "controlnet of sd": lambda: _controlnet(_unet()),
    "controlnet of xl": lambda: _controlnet(_unet(**_XL_UNET)),
    "controlnet of sd3": _controlnet_sd3,
    "controlnet of flux": _controlnet_flux,
}

PIPELINES: dict[str, Callable[[], Any]] = {
    "sd": _sd,
    "sd2": _sd2,
    "xl": _xl,
    "sd3": _sd3,
    "flux": _flux,
    "upscale": _upscale,
    "latent upscale": _latent_upscale,
    "super resolution": _super_resolution,
    "ddpm": _ddpm,
    "ddim": _ddim_pipeline,
    "pndm": _pndm,
    "ldm": _ldm,
    "lcm": _lcm,
    "flux control": _flux_control,
    "flux fill": _flux_fill,
    "pix2pix": _pix2pix,
    "dit": _dit,
    "pixart alpha": lambda: _pixart("PixArtAlphaPipeline"),
    "pixart sigma": lambda: _pixart("PixArtSigmaPipeline"),
    "sana": _sana,
    "deepfloyd": _if,
    "deepfloyd upscale": _if_upscale,
    "kandinsky": _kandinsky,
    "kandinsky inpaint": _kandinsky_inpaint,
    "unclip": _unclip,
}
