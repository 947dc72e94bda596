"""Who may import whom, read with ast: layers import downwards only, the parts of one layer never
import each other, each big library has one home, and what `validate` needs stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the lowest. Parts of one layer do not import each other, files of one part may.
LAYERS = (
    ("errors",),
    ("settings", "resources", "faults", "failpoints"),
    (
        *("interruption", "owners", "heartbeat", "schema_faults", "yaml_reader"),
        *("prompt_templates", "quotas", "joint_counts"),
        *("prompt_words", "prompt_vocabulary", "person_names"),
    ),
    ("schema_rules", "gates", "prompt_schema"),
    ("detector_schema",),
    ("prompt_checks", "prompt_files"),
    ("recipe", "labels"),
    ("label_shapes", "label_polygons"),
    ("label_moves", "label_checks"),
    ("conditions",),
    ("plan", "manifest", "digest", "prompts", "mixing", "prompt_rules"),
    ("images", "safetensors_header", "watermark"),
    ("image_set", "image_files", "label_files", "medical", "folder_tar"),
    ("features", "real_images", "pretrained"),
    ("references",),
    ("generators", "augment", "filters", "detectors", "formats", "store", "catalog"),
    ("training", "evaluation"),
    ("resolve_prompts", "deployment_rules"),
    ("resolve", "synthetic_images"),
    ("sampler_cache",),
    ("fingerprint", "versions", "registry", "sources", "half_precision"),
    ("home_models", "registrar", "batch_shape"),
    ("attachments", "approval", "review", "pipelines"),
    ("exports",),
    ("stages",),
    ("engine",),
    ("submission", "sweeper", "trainings"),
    ("embedded", "records", "figures", "trainer"),
    ("assessment", "refilter"),
    ("bench", "credentials", "diff", "forecast", "remake", "verify", "retention"),
    ("webhooks",),
    ("revocation", "schedules", "webhook_delivery", "usage"),
    ("client", "stack", "lineage", "withdrawal"),
    ("commands", "api"),
    ("cli",),
)
LEVELS = {part: level for level, layer in enumerate(LAYERS) for part in layer}

# Library -> the parts of datagen that alone may import it.
HOMES = {
    "boto3": {"store", "stack"},
    "botocore": {"store", "stack"},
    "sqlalchemy": {"catalog"},
    "alembic": {"catalog"},
    "fastapi": {"api"},
    "httpx": {"client"},
    "c2pa": {"credentials"},
    "opacus": {"training"},
    "peft": {"generators"},
    "transformers": {"generators", "pretrained"},
    "pydicom": {"medical"},
    "nibabel": {"medical"},
    "highdicom": {"medical"},
    "celery": set[str](),
    "kombu": set[str](),
    "redis": set[str](),
    "workers": set[str](),
}

# What `datagen validate`, `ls` and `--help` load, and what they must not.
LIGHT = ("cli", "recipe", "resolve", "store", "augment", "filters", "formats", "generators")
HEAVY = {
    *("torch", "diffusers", "albumentations", "pyarrow", "cv2", "PIL", "safetensors"),
    *("sqlalchemy", "alembic", "boto3", "botocore", "psycopg"),
    *("pydicom", "nibabel", "highdicom"),
    *("accelerate", "peft", "transformers", "huggingface_hub"),
    *("fastapi", "uvicorn", "httpx", "jwt", "prometheus_client", "celery", "redis"),
}


@dataclass(frozen=True)
class Import:
    """One imported module, as a dotted name. at_load: it runs when the importer is imported."""

    importer: str
    line: int
    name: str
    at_load: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name}"


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, *, is_package: bool) -> Iterator[Import]:
    """`from a import b` gives both a and a.b: b may be a module."""
    package = module.split(".") if is_package else module.split(".")[:-1]

    def visit(node: ast.AST, at_load: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, at_load)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield Import(module, node.lineno, origin, at_load)
            for alias in node.names:
                yield Import(module, node.lineno, f"{origin}.{alias.name}", at_load)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from visit(statement, False)
            for statement in node.orelse:
                yield from visit(statement, at_load)
        else:
            inside = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_load and not isinstance(node, inside))

    yield from visit(ast.parse(source), True)


def read_imports(root: Path, package: str) -> dict[str, list[Import]]:
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        module = module_name(path, root)
        is_package = path.name == "__init__.py"
        found[module] = list(imports_of(path.read_text(), module, is_package=is_package))
    return found


def part_of(module: str) -> str | None:
    """datagen.filters.blank => filters; None outside datagen, and for datagen itself."""
    names = module.split(".")
    return names[1] if names[0] == "datagen" and len(names) > 1 else None


def against_the_layers(imports: Iterator[Import], levels: dict[str, int]) -> list[str]:
    wrong = []
    for entry in imports:
        mine, theirs = part_of(entry.importer), part_of(entry.name)
        if theirs not in levels or mine not in levels or mine == theirs:
            continue
        if levels[theirs] >= levels[mine]:
            wrong.append(str(entry))
    return wrong


def out_of_home(imports: Iterator[Import], homes: dict[str, set[str]]) -> list[str]:
    return [
        str(entry)
        for entry in imports
        if (library := entry.name.split(".")[0]) in homes
        and part_of(entry.importer) not in homes[library]
    ]


def loaded_by(start: str, modules: dict[str, list[Import]]) -> Iterator[Import]:
    """Every import that runs when `start` is imported, those of parent packages included."""
    waiting, seen = [start], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen or module not in modules:
            continue
        seen.add(module)
        if "." in module:
            waiting.append(module.rpartition(".")[0])
        for entry in modules[module]:
            if entry.at_load:
                yield entry
                waiting.append(entry.name)


@pytest.fixture(scope="module")
def modules() -> dict[str, list[Import]]:
    return read_imports(ROOT, "datagen")


def every(modules: dict[str, list[Import]]) -> Iterator[Import]:
    return (entry for entries in modules.values() for entry in entries)


def test_imports_point_downwards(modules: dict[str, list[Import]]) -> None:
    assert against_the_layers(every(modules), LEVELS) == []


def test_every_module_has_a_layer(modules: dict[str, list[Import]]) -> None:
    parts = {part for module in modules if (part := part_of(module)) not in (None, "__main__")}
    assert parts - set(LEVELS) == set(), "give the new part its place in LAYERS"


def test_libraries_stay_at_home(modules: dict[str, list[Import]]) -> None:
    assert out_of_home(every(modules), HOMES) == []


def test_no_module_is_imported_by_a_computed_name() -> None:
    """Such an import would hide from this file."""
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "datagen").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__")
    ]
    assert calls == []


def test_settings_alone_reads_the_environment() -> None:
    """Writing one variable, for a library that reads it, is another matter."""
    reads = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "datagen").rglob("*.py"))
        if path.name != "settings.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("os.getenv", "os.environ.get", "environ.get")
        )
        or (
            isinstance(node, ast.Subscript)
            and isinstance(node.ctx, ast.Load)
            and ast.unparse(node.value) in ("os.environ", "environ")
        )
    ]
    assert reads == []


@pytest.mark.parametrize("part", LIGHT)
def test_light_modules_load_nothing_heavy(modules: dict[str, list[Import]], part: str) -> None:
    start = f"datagen.{part}"
    assert start in modules
    heavy = {str(e) for e in loaded_by(start, modules) if e.name.split(".")[0] in HEAVY}
    assert heavy == set()


def test_validate_loads_nothing_heavy(tmp_path: Path) -> None:
    """The same, seen from outside: also through libraries."""
    recipe = sorted((ROOT / "recipes").glob("*.yaml"))[0]
    program = (
        "import sys, json\n"
        "from datagen.cli import main\n"
        f"sys.argv = ['datagen', 'validate', {str(recipe)!r}]\n"
        "code = 0\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    code = end.code or 0\n"
        f"print(json.dumps([code, sorted({HEAVY!r} & set(sys.modules))]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]
    assert list(tmp_path.iterdir()) == [], "validate must write nothing"


def test_an_import_that_points_upwards_is_found() -> None:
    source = "def f():\n    from datagen.engine import run\n"
    found = imports_of(source, "datagen.filters.blank", is_package=False)
    assert against_the_layers(found, LEVELS) == [
        "datagen.filters.blank:2 imports datagen.engine",
        "datagen.filters.blank:2 imports datagen.engine.run",
    ]


def test_a_relative_import_of_a_sibling_is_found() -> None:
    found = imports_of("from ..store import open_store", "datagen.formats.card", is_package=False)
    assert against_the_layers(found, LEVELS)[0] == "datagen.formats.card:1 imports datagen.store"


def test_only_what_runs_at_load_counts_as_loaded() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "class A:\n    import cv2\n    def f(self):\n        import boto3\n"
    )
    found = imports_of(source, "datagen.x", is_package=False)
    assert [e.name for e in found if e.at_load] == ["typing", "typing.TYPE_CHECKING", "cv2"]
