"""A model on disk: config.json, model.safetensors, README.md. Checked before anything is opened.

Torch-free: `validate` and `models` call this. Input is hostile: a model directory may come from
anyone, so only regular files of known names and bounded sizes are read, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datagen.conditions import ConditionConfig
from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.encoding import MAX_NAMES, check_condition
from datagen.generators.interface import GeneratorSpec, ModelConfig
from datagen.generators.model_facts import ModelFacts
from datagen.generators.model_versions import MODEL_NAME, exact_name, versions_among
from datagen.recipe import ConditionKind, canonical_json, suggest
from datagen.resources import shipped_models_dir
from datagen.safetensors_header import REFERENCE_TYPES, WEIGHT_TYPES, check_safetensors

if TYPE_CHECKING:
    import torch

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
REFERENCE_FILE, SHEET_FILE = "reference.safetensors", "samples.png"
CURVES_FILE = "training.png"

_MAX_BYTES = {
    CONFIG_FILE: 1 << 20,
    WEIGHTS_FILE: 1 << 30,
    CARD_FILE: 1 << 20,
    REFERENCE_FILE: 1 << 28,
    SHEET_FILE: 1 << 24,
    CURVES_FILE: 1 << 24,
}
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_REMEDY = "train or copy the model again"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
Side = Annotated[int, Field(ge=8, le=1024, strict=True)]


class UnknownModelError(ModelError):
    """No model of that name; the message says which there are."""


class _ConditionPart(BaseModel):
    """See ConditionConfig."""

    model_config = _STRICT

    kind: ConditionKind
    names: tuple[Name, ...] = Field(default=(), max_length=MAX_NAMES)
    channels: int = Field(default=0, ge=0, le=3, strict=True)


class _ConfigFile(ModelFacts):
    """config.json."""

    generator: str = Field(max_length=63)
    class_names: tuple[Name, ...] = Field(max_length=10_000)
    image_size: tuple[Side, Side] | None
    channels: int | None = Field(ge=1, le=4, strict=True)
    network: dict[str, Any] = Field(max_length=64)
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    condition: _ConditionPart | None = None

    def plain(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """As JSON; the condition is left out where there is none, as before there were any."""
        content = self.model_dump(mode="json", exclude=set(exclude))
        if self.condition is None:
            del content["condition"]
        return content


@dataclass(frozen=True)
class Model:
    """A checked model directory. weights: None for a family that needs none. reference: what it
    knows of its real images (references/); None if none was fitted.

    digest: sha256 over the generator, its classes, sizes, network, condition where it takes one,
    and the weights' sha256, and so of all that decides an image; the facts and the other files may
    change under it.
    """

    name: str
    digest: str
    config: ModelConfig
    path: Path
    weights: Path | None
    facts: ModelFacts
    reference: Path | None = None

    @property
    def spec(self) -> GeneratorSpec:
        return GENERATORS[self.config.generator]


def find_model(name: str, models_dirs: Sequence[Path]) -> Model:
    """The model that a recipe names: NAME@2 is that version, NAME the newest that is not
    deprecated, or the newest if all are. Of the first folder that has it, the shipped models last.

    Raises UnknownModelError if there is none, ModelError if it is damaged or unsafe.
    """
    return load_model(find_model_folder(name, models_dirs))


def find_model_folder(name: str, models_dirs: Sequence[Path]) -> Path:
    """As find_model, but only the configs of its versions are read."""
    names = model_names(models_dirs)
    match = MODEL_NAME.fullmatch(name)
    if match is None:
        versions = []
    elif match["version"]:
        wanted = exact_name(match["name"], int(match["version"]))
        versions = [wanted] if wanted in names else []
    else:
        versions = [exact_name(name, number) for number in versions_among(name, names)]
    if not versions:
        known = ", ".join(names) or "none"
        raise UnknownModelError(
            f"model {name!r} does not exist{suggest(name, names)}; known: {known}"
        )
    if len(versions) > 1:
        sound = [each for each in versions if not _is_deprecated(names[each])]
        versions = sound or versions
    return names[versions[-1]]


def _is_deprecated(path: Path) -> bool:
    return describe_model(path).facts.deprecated is not None


def model_names(models_dirs: Sequence[Path]) -> dict[str, Path]:
    """Exact name -> folder, sorted; a folder counts as a model if it holds a config.json. Later
    versions have names of their own: see model_versions.py."""
    found: dict[str, Path] = {}
    for folder in (*models_dirs, shipped_models_dir()):
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in entries:
            if os.path.lexists(path / CONFIG_FILE) and not path.name.startswith("."):
                found.setdefault(path.name, path)
    return dict(sorted(found.items()))


def load_model(path: Path) -> Model:
    """Raises ModelError naming the file, what was expected and what to do."""
    try:
        model, weights_sha256 = _describe(path)
        if model.weights is not None:
            types = getattr(model.spec, "weight_types", WEIGHT_TYPES)
            _check_weights(model.weights, weights_sha256, types)
        if model.reference is not None:
            check_safetensors(model.reference, types=REFERENCE_TYPES)
    except OSError as error:
        raise ModelError(f"model {path}: cannot be read ({error}); {_REMEDY}") from None
    return model


def describe_model(path: Path) -> Model:
    """As load_model, but the weights are not read: for lists. Raises ModelError."""
    try:
        return _describe(path)[0]
    except OSError as error:
        raise ModelError(f"model {path}: cannot be read ({error}); {_REMEDY}") from None


def _describe(path: Path) -> tuple[Model, str | None]:
    """And the sha256 that its weights are to have."""
    files = _list_files(path)
    if CONFIG_FILE not in files:
        raise ModelError(f"model {path}: {CONFIG_FILE} is missing; {_REMEDY}")
    data = _read_regular(path / CONFIG_FILE)
    content = _parse_config(path / CONFIG_FILE, data)
    config = _checked_config(path / CONFIG_FILE, content)
    has_weights = WEIGHTS_FILE in files
    if has_weights != GENERATORS[config.generator].needs_weights:
        problem = "is not expected" if has_weights else "is missing"
        raise ModelError(
            f"model {path}: {WEIGHTS_FILE} {problem} for generator {config.generator}; {_REMEDY}"
        )
    model = Model(
        name=path.name,
        digest=_digest_of(content),
        config=config,
        path=path,
        weights=path / WEIGHTS_FILE if has_weights else None,
        facts=ModelFacts(**{name: getattr(content, name) for name in ModelFacts.model_fields}),
        reference=path / REFERENCE_FILE if REFERENCE_FILE in files else None,
    )
    return model, content.weights_sha256


def save_model(
    folder: Path,
    config: ModelConfig,
    weights: dict[str, torch.Tensor] | None,
    facts: ModelFacts,
    *,
    card: str,
    sheet_png: bytes | None = None,
    curves_png: bytes | None = None,
) -> Model:
    """Writes a model directory whole or not at all, and reads it back.

    Raises ModelError if the folder exists: a model that a data set names never changes.
    """
    if os.path.lexists(folder):
        raise ModelError(
            f"model {folder} exists, and a model never changes; remove it, or choose another name"
        )
    files = {CARD_FILE: card.encode()}
    if sheet_png is not None:
        files[SHEET_FILE] = sheet_png
    if curves_png is not None:
        files[CURVES_FILE] = curves_png
    if weights is not None:
        from safetensors.torch import save

        files[WEIGHTS_FILE] = save({k: v.contiguous() for k, v in weights.items()})
    files[CONFIG_FILE] = _config_bytes(config, facts, files.get(WEIGHTS_FILE))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in files.items():
            _write_synced(temporary / name, data)
        temporary.chmod(0o755)
        load_model(temporary)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return load_model(folder)


def change_facts(model: Model, **changes: Any) -> Model:
    """Writes config.json anew with other facts; the model and its digest stay what they are.

    Raises ModelError if it cannot be written.
    """
    path = model.path / CONFIG_FILE
    content = _parse_config(path, _read_regular(path)).model_copy(update=changes)
    data = json.dumps(content.plain(), indent=2).encode() + b"\n"
    partial = model.path.parent / f".{model.path.name}.{CONFIG_FILE}"
    try:
        partial.unlink(missing_ok=True)
        _write_synced(partial, data)
        os.replace(partial, path)
    except OSError as error:
        raise ModelError(
            f"model {model.path}: {CONFIG_FILE} cannot be written ({error.strerror}); see that the "
            "folder can be written and is not full"
        ) from None
    return describe_model(model.path)


def _list_files(path: Path) -> frozenset[str]:
    """Names of the files of a model directory, each known, regular and of a bounded size."""
    if path.is_symlink() or not path.is_dir():
        raise ModelError(f"model {path}: expected a folder, not a link; {_REMEDY}")
    with os.scandir(path) as entries:
        return frozenset(_checked_name(path, entry) for entry in entries)


def _checked_name(path: Path, entry: os.DirEntry[str]) -> str:
    if entry.name not in _MAX_BYTES:
        raise ModelError(
            f"model {path}: {entry.name[:200]} does not belong there: expected only "
            f"{', '.join(_MAX_BYTES)}; remove it (weights are safetensors, never pickles)"
        )
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(
            f"model {path}: {entry.name}: expected a regular file, no link or folder; "
            "put the file itself there"
        )
    if status.st_size > _MAX_BYTES[entry.name]:
        raise ModelError(
            f"model {path}: {entry.name}: {status.st_size} bytes; expected at most "
            f"{_MAX_BYTES[entry.name]}; {_REMEDY}"
        )
    return entry.name


def _read_regular(path: Path) -> bytes:
    """A small file's bytes, bounded, never through a link that appeared since it was listed."""
    limit = _MAX_BYTES[path.name]
    with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW)) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ModelError(f"model file {path}: expected at most {limit} bytes; {_REMEDY}")
    return data


def _parse_config(path: Path, data: bytes) -> _ConfigFile:
    try:
        return _ConfigFile.model_validate(json.loads(data))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ModelError(f"model file {path}: {where}: {first['msg']}; {_REMEDY}") from None
        raise ModelError(f"model file {path}: not JSON ({error}); {_REMEDY}") from None


def _checked_config(path: Path, content: _ConfigFile) -> ModelConfig:
    if content.generator not in GENERATORS:
        hint = suggest(content.generator, list(GENERATORS))
        raise ModelError(
            f"model file {path}: generator {content.generator!r} is not known{hint}; "
            f"expected one of {', '.join(GENERATORS)}"
        )
    spec = GENERATORS[content.generator]
    if len(set(content.class_names)) != len(content.class_names):
        raise ModelError(f"model file {path}: class_names: expected no name twice; {_REMEDY}")
    named = content.class_names or getattr(spec, "takes_any_class", False)
    if spec.needs_weights and not (named and content.image_size and content.channels):
        raise ModelError(
            f"model file {path}: generator {spec.name} needs class_names, image_size and "
            f"channels; {_REMEDY}"
        )
    config = ModelConfig(
        generator=content.generator,
        class_names=content.class_names,
        image_size=content.image_size or (0, 0),
        channels=content.channels or 0,
        network=content.network,
        condition=None if content.condition is None else ConditionConfig(**dict(content.condition)),
    )
    try:
        spec.network_options.model_validate(content.network)
        check_condition(config.generator, config.condition)
        spec.check(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in ("network", *first["loc"]))
        raise ModelError(f"model file {path}: {where}: {first['msg']}; {_REMEDY}") from None
    except ModelError as error:
        raise ModelError(f"model file {path}: {error}") from None
    return config


def _check_weights(path: Path, expected_sha256: str | None, types: Sequence[str]) -> None:
    check_safetensors(path, types=types)
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected_sha256:
        raise ModelError(
            f"model file {path}: sha256 {found}; expected {expected_sha256}, as {CONFIG_FILE} "
            f"says: the file was swapped or damaged; {_REMEDY}"
        )


def _config_bytes(config: ModelConfig, facts: ModelFacts, weights: bytes | None) -> bytes:
    content = _ConfigFile(
        generator=config.generator,
        class_names=config.class_names,
        image_size=None if config.image_size == (0, 0) else config.image_size,
        channels=config.channels or None,
        network=config.network,
        condition=None if config.condition is None else _ConditionPart(**asdict(config.condition)),
        weights_sha256=None if weights is None else hashlib.sha256(weights).hexdigest(),
        **{name: getattr(facts, name) for name in ModelFacts.model_fields},
    )
    return json.dumps(content.plain(), indent=2).encode() + b"\n"


def _digest_of(content: _ConfigFile) -> str:
    """Of all that decides an image, and of nothing else: the same training gives the same digest,
    however long it took and wherever it ran."""
    identity = content.plain(exclude=ModelFacts.model_fields)
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
