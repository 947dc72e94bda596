"""The pipeline family: any pipeline of diffusers as a generator.

Torch-free: torch, diffusers and transformers are imported by `load` and `check_prompts` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from datagen.conditions import ConditionConfig
from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.pipeline.files import open_controlnet, open_pipeline
from datagen.generators.pipeline.memory import weight_bytes
from datagen.generators.pipeline.network_options import PipelineNetwork
from datagen.generators.pipeline.option_checks import check_options, class_ids_of
from datagen.generators.pipeline.options import PipelineOptions
from datagen.generators.pipeline.prompt_limits import check_lengths
from datagen.generators.pipeline.request import (
    OpenedPipeline,
    PipelineRequest,
    open_request,
    pin,
    request_of,
)
from datagen.generators.pipeline.sizes import check_size, num_channels

# Of a picture that conditions the images, where the recipe does not say.
_CHANNELS = {"given": 3, "edges": 1, "depth": 1, "segmentation": 0}


class _NoObjective(BaseModel):
    """Nothing is trained here: the lora family tunes a pipeline."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PipelineSpec:
    name = "pipeline"
    options: type[BaseModel] = PipelineOptions
    network_options: type[BaseModel] = PipelineNetwork
    objective_options: type[BaseModel] = _NoObjective
    needs_weights = False
    needs_init = False
    init_generators: tuple[str, ...] = ()
    batch_size = 4
    max_unit_size = 16
    network_call_dtype = "float32"  # of the options, which are part of every image's key
    libraries: tuple[str, ...] = ("torch", "diffusers", "transformers", "tokenizers")
    revision = 1

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        """Of the denoiser, where the pipeline runs every step; a guided step counts twice."""
        assert isinstance(options, PipelineOptions)
        steps = options.num_inference_steps
        calls = 2 * steps - 1 if options.scheduler == "heun" else steps
        if options.strength is not None:
            calls = max(1, int(calls * options.strength))
        return (
            calls
            if options.guidance_scale is not None and options.guidance_scale <= 1
            else (2 * calls)
        )

    def check(self, config: ModelConfig) -> None:
        """What needs no file; the pipeline is read by `fit`, `load` and the others."""
        PipelineNetwork.model_validate(config.network)

    def fit(
        self,
        config: ModelConfig,
        options: BaseModel,
        *,
        class_names: Sequence[str],
        image_size: tuple[int, int],
    ) -> ModelConfig:
        """Raises ModelError for options or a size that the pipeline does not take."""
        opened = self._open(config, options)
        check_options(opened)
        class_ids_of(opened, class_names)
        size = image_size if config.image_size == (0, 0) else config.image_size
        check_size(opened, size)
        return replace(
            config,
            class_names=tuple(class_names),
            image_size=size,
            channels=num_channels(opened),
            condition=_condition(opened),
        )

    def takes(self, config: ModelConfig, options: BaseModel) -> frozenset[str]:
        opened = self._open(config, options)
        call, true_scale = opened.call, opened.options.true_cfg_scale
        mixes = frozenset(f"mix:{kind}" for kind in call.mixes)
        if call.words == "none":
            return mixes
        guided = opened.guidance_scale is None or opened.guidance_scale >= 1
        has_negative = (call.negative and guided) or (true_scale is not None and true_scale > 1)
        return mixes | ({"prompt", "negative"} if has_negative else {"prompt"})

    def needs_prompt(self, config: ModelConfig, options: BaseModel) -> bool:
        return self._open(config, options).task == "text-to-image"

    def check_prompts(self, config: ModelConfig, options: BaseModel, texts: Sequence[str]) -> None:
        """Raises ModelError naming one that is longer than a text encoder takes, and the limit."""
        _require_libraries()
        check_lengths(self._open(config, options), texts)

    def pin_options(
        self, config: ModelConfig, options: BaseModel, *, allow_network: bool = False
    ) -> BaseModel:
        """With the digest of every file that they name. allow_network: hub ids are fetched where
        this machine's cache has them not. Raises ModelError."""
        request = self._request(config, options)
        if allow_network:
            _fetch(request)
        return pin(request, config)

    def licences_of(
        self, config: ModelConfig, options: BaseModel
    ) -> tuple[tuple[str, str | None], ...]:
        """Of the pipeline and of its ControlNet: as the card of each states it; what was said when
        the model was made counts for a pipeline whose card says nothing."""
        opened = self._open(config, options)
        said = PipelineNetwork.model_validate(config.network).licence
        found = [("the pipeline", _licence(opened.folder.licence, said))]
        if opened.controlnet is not None:
            found.append(("its ControlNet", _licence(opened.controlnet.licence, said)))
        return tuple(found)

    def memory_bytes(self, config: ModelConfig, options: BaseModel) -> int:
        """Of the weights in memory, read off the files."""
        return weight_bytes(self._open(config, options))

    def probe_batch_size(self, config: ModelConfig, options: BaseModel, *, device: str) -> int:
        """Images per network call that suit the device, measured. config: fitted."""
        assert isinstance(options, PipelineOptions)
        chosen = options.batch_size or PipelineNetwork.model_validate(config.network).batch_size
        if chosen is not None:
            return chosen
        from datagen.generators.pipeline.batch_probe import probe_pipeline

        return probe_pipeline(self._open(config, options), config, device=device)

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        _require_libraries()
        from datagen.generators.pipeline.loading import load_pipeline
        from datagen.generators.pipeline.sample import PipelineSampler

        opened = self._open(config, options)
        return PipelineSampler(
            load_pipeline(opened, device=device),
            opened,
            config,
            batch_size=batch_size,
            class_numbers=class_ids_of(opened, config.class_names),
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        raise ModelError("generator pipeline: there is nothing to train; use lora to tune one")

    def _request(self, config: ModelConfig, options: BaseModel) -> PipelineRequest:
        assert isinstance(options, PipelineOptions)
        return request_of(config, options)

    def _open(self, config: ModelConfig, options: BaseModel) -> OpenedPipeline:
        return open_request(self._request(config, options))


def _licence(on_card: str | None, said: str | None) -> str | None:
    """A card that says one is believed before whoever made the model."""
    return said if on_card is None else on_card


def _fetch(request: PipelineRequest) -> None:
    """Into this machine's cache, where all else finds it."""
    for files, opens in ((request.pipeline, open_pipeline), (request.controlnet, open_controlnet)):
        if files is not None and files.revision is not None:
            opens(files.source, revision=files.revision, sha256=files.sha256, allow_network=True)


def _condition(opened: OpenedPipeline) -> ConditionConfig | None:
    """What the images are made to fit, by the task."""
    options = opened.options
    channels = options.picture_channels or _CHANNELS[options.control]
    if opened.call.picture is None:
        return None
    if opened.call.mask:
        return ConditionConfig("inpaint", (), channels)
    if options.control == "segmentation":
        return ConditionConfig("mask", (), 0)
    return ConditionConfig("image", (), channels)


def _require_libraries() -> None:
    missing = [name for name in ("diffusers", "transformers") if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"generator pipeline: {' and '.join(missing)} not installed; "
            "`pip install 'datagen[lora]'`"
        )
