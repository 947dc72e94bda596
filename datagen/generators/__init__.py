"""The generator families, by the name that config.json and model recipes use."""

from __future__ import annotations

from datagen.generators.cgan.spec import CganSpec
from datagen.generators.condition_set.spec import ConditionSetSpec
from datagen.generators.ect.spec import EctSpec
from datagen.generators.edm.spec import EdmSpec
from datagen.generators.interface import GeneratorSpec
from datagen.generators.latent.spec import LatentEdmSpec
from datagen.generators.layout.spec import LayoutSpec
from datagen.generators.lora.spec import LoraSpec
from datagen.generators.noise.spec import NoiseSpec
from datagen.generators.pipeline.spec import PipelineSpec
from datagen.generators.procedural.spec import ProceduralSpec
from datagen.generators.spade.spec import SpadeSpec
from datagen.generators.style_transfer.spec import StyleTransferSpec
from datagen.generators.text_edm.spec import TextEdmSpec
from datagen.generators.vae.spec import VaeSpec

GENERATORS: dict[str, GeneratorSpec] = {
    "cgan": CganSpec(),
    "condition_set": ConditionSetSpec(),
    "ect": EctSpec(),
    "edm": EdmSpec(),
    "latent-edm": LatentEdmSpec(),
    "layout": LayoutSpec(),
    "lora": LoraSpec(),
    "noise": NoiseSpec(),
    "pipeline": PipelineSpec(),
    "procedural": ProceduralSpec(),
    "spade": SpadeSpec(),
    "style_transfer": StyleTransferSpec(),
    "text-edm": TextEdmSpec(),
    "vae": VaeSpec(),
}
