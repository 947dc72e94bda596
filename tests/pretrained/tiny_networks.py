"""Pretrained folders of some thousand parameters, built from configs; ONNX by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SIDE_PX = 16
_SIZE = {"height": SIDE_PX, "width": SIDE_PX}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE_PX,
    "patch_size": 4,
}
_TEXT = {
    "vocab_size": 190,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
    "bos_token_id": 188,
    "eos_token_id": 189,
    "pad_token_id": 189,
}


def numbers(count: int) -> NDArray[np.float32]:
    """For a file of weights that no network reads."""
    return np.arange(count, dtype=np.float32)


def pictures(
    num: int, *, height: int = 20, width: int = 24, channels: int = 3
) -> NDArray[np.uint8]:
    """Noise, a black, a white and a half white one, and more noise; read-only."""
    images = np.random.default_rng(0).integers(0, 256, (num, height, width, channels), np.uint8)
    images[1:2], images[2:3], images[3:4, : height // 2] = 0, 255, 255
    images.flags.writeable = False
    return images


def save_vit(folder: Path, labels: Sequence[str], *, is_multi: bool = False) -> Any:
    """Random weights, but spread: its answers differ from image to image."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    config = ViTConfig(**_VISION, id2label=dict(enumerate(labels)), label2id=_ids(labels))
    if is_multi:
        config.problem_type = "multi_label_classification"
    network = spread(ViTForImageClassification(config), seed=1)
    network.save_pretrained(folder)
    ViTImageProcessorPil(size=_SIZE).save_pretrained(folder)
    return network


def save_clip(folder: Path) -> Any:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    config = CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=8)
    network = spread(CLIPModel(config), seed=2)
    network.save_pretrained(folder)
    CLIPImageProcessorPil(size=_SIZE, do_center_crop=False).save_pretrained(folder)
    save_tokenizer(folder)
    return network


def save_safety_checker(pipeline: Path) -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessorPil

    config = CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=8)
    checker = spread(StableDiffusionSafetyChecker(config), seed=3)
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for each in (checker.concept_embeds, checker.special_care_embeds):
            each.copy_(torch.randn(each.shape, generator=rng))
        checker.concept_embeds_weights.fill_(0.75)
        checker.special_care_embeds_weights.fill_(0.4)
    checker.save_pretrained(pipeline / "safety_checker")
    CLIPImageProcessorPil(size=_SIZE, do_center_crop=False).save_pretrained(
        pipeline / "feature_extractor"
    )
    return checker


def save_owl(folder: Path) -> Any:
    """Its box head and its confidence are spread too: some boxes are found in any picture."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

    config = Owlv2Config(
        text_config=_TEXT | {"max_position_embeddings": 16},
        vision_config=_VISION,
        projection_dim=16,
    )
    network = spread(Owlv2ForObjectDetection(config), seed=5)
    network.save_pretrained(folder)
    Owlv2ImageProcessorPil(size=_SIZE).save_pretrained(folder)
    save_tokenizer(folder)
    return network


def save_yolos(folder: Path, labels: Sequence[str]) -> Any:
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    config = YolosConfig(
        **(_VISION | {"image_size": [SIDE_PX, SIDE_PX]}),
        num_detection_tokens=12,
        use_mid_position_embeddings=False,
        id2label=dict(enumerate(labels)),
        label2id=_ids(labels),
    )
    network = spread(YolosForObjectDetection(config), seed=6)
    network.save_pretrained(folder)
    size = {"shortest_edge": SIDE_PX, "longest_edge": 2 * SIDE_PX}
    YolosImageProcessorPil(size=size).save_pretrained(folder)
    return network


def save_segformer(folder: Path, labels: Sequence[str]) -> Any:
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessorPil,
    )

    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(labels)),
        label2id=_ids(labels),
    )
    network = spread(SegformerForSemanticSegmentation(config), seed=7)
    network.save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return network


def save_maskformer(folder: Path, labels: Sequence[str]) -> Any:
    from transformers import (
        DetrConfig,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        MaskFormerImageProcessorPil,
        SwinConfig,
    )

    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    decoder = DetrConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=8,
        num_labels=len(labels),
        use_timm_backbone=False,
        backbone_config=SwinConfig(embed_dim=8, depths=[1], num_heads=[1]),
    )
    config = MaskFormerConfig(
        backbone_config=backbone,
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label=dict(enumerate(labels)),
        label2id=_ids(labels),
    )
    network = spread(MaskFormerForInstanceSegmentation(config), seed=8)
    network.save_pretrained(folder)
    MaskFormerImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 64}).save_pretrained(
        folder
    )
    return network


def save_mask2former(folder: Path, labels: Sequence[str]) -> Any:
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
        SwinConfig,
    )

    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=8,
        id2label=dict(enumerate(labels)),
        label2id=_ids(labels),
    )
    network = spread(Mask2FormerForUniversalSegmentation(config), seed=9)
    network.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return network


def save_detr(folder: Path, labels: Sequence[str]) -> Any:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, out_features=["stage4"]
    )
    config = DetrConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=16,
        use_timm_backbone=False,
        backbone_config=backbone,
        id2label=dict(enumerate(labels)),
        label2id=_ids(labels),
    )
    network = spread(DetrForObjectDetection(config), seed=10)
    network.save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return network


def save_rt_detr(folder: Path, labels: Sequence[str]) -> Any:
    from transformers import (
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrImageProcessorPil,
        RTDetrResNetConfig,
    )

    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1] * 4,
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_queries=8,
        num_denoising=0,
        id2label=dict(enumerate(labels)),
        label2id=_ids(labels),
    )
    network = spread(RTDetrForObjectDetection(config), seed=11)
    network.save_pretrained(folder)
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return network


def save_owlvit(folder: Path) -> Any:
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessorPil

    config = OwlViTConfig(
        text_config=_TEXT | {"max_position_embeddings": 16},
        vision_config=_VISION,
        projection_dim=16,
    )
    network = spread(OwlViTForObjectDetection(config), seed=12)
    network.save_pretrained(folder)
    OwlViTImageProcessorPil(size=_SIZE, do_center_crop=False).save_pretrained(folder)
    save_tokenizer(folder)
    return network


def save_siglip(folder: Path) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import (
        PreTrainedTokenizerFast,
        SiglipConfig,
        SiglipImageProcessorPil,
        SiglipModel,
    )

    config = SiglipConfig(
        text_config=_TEXT | {"projection_size": 16}, vision_config=_VISION | {"num_channels": 3}
    )
    network = spread(SiglipModel(config), seed=13)
    with torch.no_grad():
        network.logit_scale.fill_(3.0)
    network.save_pretrained(folder)
    SiglipImageProcessorPil(size=_SIZE).save_pretrained(folder)
    letters = [chr(c) for c in range(32, 127)]
    words = {word: index for index, word in enumerate([*letters, "</s>"])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="?"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>", bos_token="</s>"
    ).save_pretrained(folder)
    return network


def save_tokenizer(folder: Path) -> None:
    """CLIP's byte pairs without a merge: a token for each letter, the end the last."""
    letters = [chr(c) for c in range(33, 127)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    content = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 24}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def spread(network: Any, *, seed: int) -> Any:
    """Weights of standard deviation 1 over the square root of their width, biases as they are."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim >= 2:
                scale = 1.5 / weights[0].numel() ** 0.5
                weights.copy_(torch.randn(weights.shape, generator=rng) * scale)
    return network.eval()


def onnx_mean_of_channels(*, batch: int | str = 1, channels: int = 3) -> bytes:
    """GlobalAveragePool, then Flatten: (N, C, H, W) => (N, C).

    Source: onnx.proto3 of ONNX 1.16, messages ModelProto, GraphProto, NodeProto, ValueInfoProto.
    """
    pool = _field(1, b"x") + _field(2, b"p") + _field(4, b"GlobalAveragePool")
    flatten = _field(1, b"p") + _field(2, b"y") + _field(4, b"Flatten")
    graph = (
        _field(1, pool)
        + _field(1, flatten)
        + _field(2, b"mean")
        + _field(11, _value("x", batch, channels, 8, 8))
        + _field(12, _value("y", batch, channels))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def _field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3, content])
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def _value(name: str, *sizes: int | str) -> bytes:
    axes = b"".join(
        _field(1, _field(1, size) if isinstance(size, int) else _field(2, size.encode()))
        for size in sizes
    )
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, axes)))


def _ids(labels: Sequence[str]) -> dict[str, int]:
    return {label: index for index, label in enumerate(labels)}
