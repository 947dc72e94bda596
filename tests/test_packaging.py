"""The wheel, installed alone into a fresh environment, works from any folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """bin: the scripts of the new environment. folder: an empty one, outside the repository."""

    wheel: Path
    bin: Path
    folder: Path

    def run(self, *command: str) -> str:
        """Standard output; the test fails if the exit code is not 0."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DATAGEN_"))}
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """datagen comes from the wheel alone; the libraries are those of this environment.

    A .pth file appends this environment's site-packages, whose own .pth files (the editable
    install of this checkout) are not read then.
    """
    folder = tmp_path_factory.mktemp("packaging")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    quick = ["--no-deps", "--no-index"]
    wheels, venv = folder / "wheels", folder / "venv"
    build = ["wheel", *quick, "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.glob("datagen-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *quick, str(wheel)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "elsewhere").mkdir()
    return Installed(wheel, venv / "bin", folder / "elsewhere")


def shipped(folder: str, *suffixes: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes
    }


def test_wheel_holds_all_that_ships_and_nothing_else(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    migrations, recipes = (
        shipped("migrations", ".py", ".mako"),
        shipped("recipes", ".yaml", ".json"),
    )
    models = shipped("datagen/models", ".json", ".md", ".safetensors", ".png")
    code = shipped("datagen", ".py") | shipped("workers", ".py")
    assert migrations
    assert recipes
    assert models
    expected = code | models | {f"datagen/{name}" for name in migrations | recipes}
    assert expected - names == set()
    strangers = {n for n in names if not n.startswith(("datagen/", "datagen-", "workers/"))}
    assert strangers == set()
    assert not [n for n in names if "__pycache__" in n]


def test_version_is_printed_from_another_folder(installed: Installed) -> None:
    import datagen

    assert datagen.__version__ in installed.run("datagen", "--version")


def test_shipped_models_are_listed(installed: Installed) -> None:
    listed = installed.run("datagen", "models", "ls", "--json")
    for path in (ROOT / "datagen/models").iterdir():
        assert path.name in listed
    json.loads(listed)


def test_resources_lie_inside_the_installed_package(installed: Installed) -> None:
    program = (
        "import datagen.resources as r; "
        "print(r.migrations_dir(), r.recipes_dir(), r.shipped_models_dir(), sep='\\n')"
    )
    for line in installed.run("python", "-c", program).splitlines():
        assert Path(line).is_dir()
        assert Path(line).is_relative_to(installed.bin.parent)


def test_a_shipped_recipe_validates(installed: Installed) -> None:
    program = "import datagen.resources as r; print(sorted(r.recipes_dir().glob('*.yaml'))[0])"
    recipe = installed.run("python", "-c", program).strip()
    installed.run("datagen", "validate", recipe)
    assert list(installed.folder.iterdir()) == []
