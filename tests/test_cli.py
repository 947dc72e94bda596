"""The command line as shells and scripts see it: output, JSON, messages and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from datagen.cli import main
from datagen.client.problems import RefusedError
from datagen.commands.edge import Edge, debug_option
from datagen.errors import CatalogError, InputError, JobError, StoreFullError
from datagen.faults import Problem
from datagen.recipe import canonical_json
from tests.published import copied_home, flip_byte
from tests.recipes import noise_recipe
from tests.training.tiny_data import tiny_recipe_text, write_tiny_data

DATAGEN = [sys.executable, "-m", "datagen"]
HEAVY = ("torch", "albumentations", "diffusers", "cv2", "pyarrow", "boto3", "PIL", "safetensors")
PINNED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NO_ALBUMENTATIONS_UPDATE")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine's, an empty folder to work in, and thread settings put back."""
    for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
        monkeypatch.delenv(name)
    for name in PINNED:
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)


def datagen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeed(*arguments: str | Path) -> str:
    result = datagen(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def one_object(text: str) -> dict[str, Any]:
    content = json.loads(text)
    assert isinstance(content, dict)
    assert text.count("\n") == 1
    return content


def write_recipe(path: Path, changes: dict[str, Any] | None = None) -> Path:
    path.write_bytes(canonical_json(noise_recipe(changes).recipe.to_json()))
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with small@1 (100 images) and small@2 (20 more)."""
    folder = tmp_path_factory.mktemp("cli")
    grown = {"classes": [{"name": "cat", "count": 80}, {"name": "dog", "count": 40}]}
    for changes in ({}, grown):
        recipe = write_recipe(folder / "small.json", {"filters": [{"filter": "blank"}]} | changes)
        succeed("run", recipe, "--home", folder / "home")
    return folder / "home"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.json")


# --- results --------------------------------------------------------------------------------------


def test_run_prints_version_counts_contact_sheets_and_what_to_type_next(recipe: Path) -> None:
    printed = succeed("run", recipe, "--home", "here")
    assert printed.startswith("small@1 made: 100 images")
    assert ["cat", "48", "9", "3", "60"] in [line.split() for line in printed.splitlines()]
    facts = dict(line.split("  ", 1) for line in printed.splitlines()[-4:])
    sheets = Path(facts["contact sheets"].strip())
    assert {path.name for path in sheets.iterdir()} == {"cat.png", "dog.png"}
    command = facts["next"].split()
    assert command[0] == "datagen"
    succeed(*command[1:])
    assert Path("small-1/train/cat").is_dir()


def test_run_json_is_one_object_with_counts_by_class_and_split(recipe: Path) -> None:
    content = one_object(succeed("run", recipe, "--json"))
    assert {"name", "version", "digest", "path", "counts", "seconds", "reused"} <= content.keys()
    assert content["counts"]["dog"] == {"train": 32, "val": 6, "test": 2}
    assert (content["version"], content["reused"], content["images_generated"]) == (1, False, 100)
    assert Path(content["path"], "manifest.json").is_file()
    again = one_object(succeed("run", recipe, "--json"))
    assert (again["version"], again["reused"], again["images_generated"]) == (1, True, 0)
    assert again["digest"] == content["digest"]


def test_two_workers_make_what_one_makes(recipe: Path) -> None:
    """In processes of their own: multiprocessing must find its way back through the script."""
    digests = {
        json.loads(
            subprocess.run(
                [*DATAGEN, "run", recipe, "--json", "--workers", str(n), "--home", f"home-{n}"],
                capture_output=True,
                check=True,
            ).stdout
        )["digest"]
        for n in (1, 2)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "RECIPE"],
        ["plan", "RECIPE", "--pilot"],
        ["run", "RECIPE"],
        ["ls"],
        ["ls", "small"],
        ["show", "small"],
        ["show", "small@1", "cat-00000003"],
        ["pull", "small@v1", "OUT", "--format", "parquet"],
        ["verify", "small@1"],
        ["diff", "small@1", "small@2"],
        ["remake", "small", "dog-00000039"],
        ["models", "ls"],
        ["models", "show", "noise"],
    ],
    ids=" ".join,
)
def test_every_command_prints_text_or_one_json_object(
    published: Path, recipe: Path, tmp_path: Path, arguments: list[str]
) -> None:
    with copied_home(published, tmp_path / "home") as home:
        for option in ([], ["--json"]):
            places = {"RECIPE": str(recipe), "OUT": str(tmp_path / f"out{len(option)}")}
            filled = [places.get(argument, argument) for argument in arguments]
            printed = succeed(*filled, "--home", home.settings.home, *option)
            assert printed
            if option:
                one_object(printed)


def test_ls_lists_what_was_published(published: Path) -> None:
    content = one_object(succeed("ls", "--json", "--home", published))
    assert [(v["name"], v["version"], v["num_samples"]) for v in content["versions"]] == [
        ("small", 1, 100),
        ("small", 2, 120),
    ]
    assert Path(content["versions"][0]["path"]).is_dir()


def test_ls_of_a_home_that_does_not_exist_finds_nothing_and_creates_nothing() -> None:
    result = datagen("ls", "--home", "nowhere")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no data set" in result.stderr
    assert one_object(succeed("ls", "--home", "nowhere", "--json")) == {"versions": []}
    assert not Path("nowhere").exists()


def test_home_is_taken_before_and_after_the_command(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = succeed("ls", "--home", published)
    assert "small@2" in after
    assert succeed("--home", published, "ls") == after
    assert succeed("--home", "nowhere", "ls", "--home", published) == after
    assert succeed("--home", published, "models", "ls") == succeed("models", "ls")
    monkeypatch.setenv("DATAGEN_HOME", str(published))
    assert succeed("ls") == after


def test_plan_says_what_will_be_made_and_writes_nothing(recipe: Path) -> None:
    content = one_object(succeed("plan", recipe, "--json"))
    assert content["counts"]["cat"] == {"test": 3, "train": 48, "val": 9}
    assert (content["num_images"], content["shards"], content["published"]) == (100, 5, None)
    assert "not known" in succeed("plan", recipe)
    assert list(Path().iterdir()) == []


def test_show_explains_a_version_and_an_image(published: Path) -> None:
    version = one_object(succeed("show", "small", "--json", "--home", published))
    assert (version["version"], version["model"]["name"]) == (2, "noise")
    assert all(Path(sheet).is_file() for sheet in version["contact_sheets"])
    image = one_object(succeed("show", "small@1", "dog-3", "--json", "--home", published))
    assert (image["key"], image["attributes"], image["split"]) == (
        "dog-00000003",
        {"age": 3},
        "train",
    )
    data = Path(image["shard"]).read_bytes()[image["offset"] :][: image["size"]]
    assert data.startswith(b"\x89PNG")
    assert "1 attempt rejected" not in succeed("show", "small@1", "dog-3", "--home", published)


def test_pull_writes_each_format(published: Path, tmp_path: Path) -> None:
    expected = {"webdataset": "train-00000.tar", "imagefolder": "train/cat", "parquet": "data"}
    for layout, inside in expected.items():
        out = tmp_path / layout
        succeed("pull", "small@1", out, "--format", layout, "--home", published)
        assert (out / inside).exists()


def test_diff_ends_with_the_totals(published: Path) -> None:
    printed = succeed("diff", "small@1", "small@2", "--home", published)
    # The dogs of version 2 have no age.
    assert printed.splitlines()[-1] == "20 added, 0 removed, 40 changed, 60 unchanged"
    content = one_object(succeed("diff", "small@1", "small@2", "--json", "--home", published))
    assert content["images"] == {"added": 20, "removed": 0, "changed": 40, "unchanged": 60}
    assert content["classes"]["cat"]["added"] == [[60, 79]]


def test_remake_writes_the_png(published: Path) -> None:
    printed = succeed("remake", "small", "cat-00000079", "--out", "cat.png", "--home", published)
    assert "identical" in printed
    assert Path("cat.png").read_bytes().startswith(b"\x89PNG")
    again = datagen("remake", "small", "cat-00000079", "--out", "cat.png", "--home", published)
    assert again.exit_code == 2


def test_a_model_is_added_once(tmp_path: Path) -> None:
    from datagen.resources import shipped_models_dir

    source = tmp_path / "quiet"
    source.mkdir()
    for path in (shipped_models_dir() / "noise").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    added = one_object(succeed("models", "add", source, "--json", "--home", "here"))
    assert Path(added["path"]) == Path("here/models/quiet").absolute()
    assert "quiet" in succeed("models", "ls", "--home", "here")
    again = one_object(succeed("models", "import", source, "--json", "--home", "here"))
    assert (again["path"], again["is_new"]) == (added["path"], False)
    (source / "model.pkl").write_bytes(b"")
    refused = datagen("models", "add", source, "--home", "other")
    assert (refused.exit_code, Path("other").exists()) == (2, False)
    assert "model.pkl does not belong there" in refused.stderr


def test_a_trained_model_is_at_hand_for_recipes(tmp_path: Path, recipe: Path) -> None:
    data = write_tiny_data(tmp_path / "data")
    model_recipe = tmp_path / "tiny-cgan.yaml"
    model_recipe.write_text(tiny_recipe_text("cgan", tmp_path / "elsewhere"))
    train = ["train", model_recipe, "--data", data, "--max-images", "48", "--json"]
    refused = datagen(*train, "--resume")
    assert (refused.exit_code, "no training has left a checkpoint" in refused.stderr) == (2, True)
    first = datagen(*train)
    assert re.search(r"^32 images, [\d,]+ images/s: .*kid ", first.stderr, re.MULTILINE)
    model = one_object(first.stdout)
    assert model["path"] == str(Path("datagen-home/models/tiny-cgan").absolute())
    assert model["training"]["images_seen"] == 48
    again = one_object(succeed(*train, "--resume"))
    assert (again["name"], again["is_new"]) == ("tiny-cgan", False), "a model never changes"
    model_recipe.write_text(model_recipe.read_text().replace("seed: 3", "seed: 4"))
    assert one_object(succeed(*train))["name"] == "tiny-cgan@2"
    [source] = one_object(succeed("sources", "ls", "--json"))["sources"]
    assert (source["name"], source["version"], source["num_images"]) == ("made-up", 1, 240)
    assert [fact["name"] for fact in model["training"]["sources"]] == ["made-up"]
    assert "tiny-cgan" in succeed("models", "ls")
    assert "trained" in succeed("models", "show", "tiny-cgan")
    asked = {
        "generator": {"model": "tiny-cgan"},
        "image_size": [8, 8],
        "classes": [{"name": "left", "count": 5}],
    }
    succeed("run", write_recipe(recipe, asked))
    assert "identical" in succeed("remake", "small", "left-4")


def test_a_damaged_model_does_not_hide_the_others() -> None:
    damaged = Path("here/models/damaged")
    damaged.mkdir(parents=True)
    (damaged / "config.json").write_text("{}")
    result = datagen("models", "ls", "--home", "here")
    assert result.exit_code == 0
    assert "noise" in result.stdout
    assert "not usable: model file here" in result.stderr.replace(str(Path.cwd()) + "/", "")
    listed = one_object(succeed("models", "ls", "--home", "here", "--json"))["models"]
    assert [model["name"] for model in listed if "error" in model] == ["damaged"]
    assert datagen("models", "show", "damaged", "--home", "here").exit_code == 2


def test_bench_measures_the_model_alone_and_the_whole_path() -> None:
    arguments = ["bench", "--generators", "noise", "--images", "300", "--rounds", "1"]
    content = one_object(succeed(*arguments, "--json"))
    measured = content["generators"]["noise"]
    assert measured["num_images"] == 300
    assert measured["images_per_s"] > 0
    assert measured["ratio"] == pytest.approx(
        measured["images_per_s"] / measured["model_images_per_s"]
    )
    assert measured["overhead_core_us"] > 0
    assert {"cpu", "cores", "torch_threads"} <= content["machine"].keys()
    assert "noise" in succeed(*arguments, "--augment")
    assert list(Path().iterdir()) == []


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clases": []}, "did you mean 'classes'"),
        ({"classes": [{"name": "cat", "count": 0}]}, "classes[0].count: 0: expected"),
        ({"classes": [{"name": "cat", "count": True}]}, "classes[0].count: true: expected"),
        ({"classes": [{"name": "../cat", "count": 1}]}, "classes[0].name"),
        ({"generator": {"model": "nose"}}, "did you mean 'noise'"),
        ({"generator": {"model": "noise", "chanels": 1}}, "did you mean 'channels'"),
        ({"filters": [{"filter": "blonk"}]}, "did you mean 'blank'"),
        ({"augmentations": [{"transform": "HorizontalFlop"}]}, "did you mean 'HorizontalFlip'"),
        ({"image_size": [0, 8]}, "image_size"),
        ({"splits": {"ratios": {"train": 0.5}}}, "sum to 1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_recipe_is_refused_by_line_and_field(
    command: str, changes: dict[str, Any], message: str
) -> None:
    content = noise_recipe().recipe.to_json() | {"generator": {"model": "noise"}} | changes
    Path("bad.json").write_text(json.dumps(content, indent=1))
    result = datagen(command, "bad.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bad.json:" in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in Path().iterdir()] == ["bad.json"]


def test_every_problem_of_a_recipe_has_a_line_of_its_own() -> None:
    Path("bad.yaml").write_text("version: 1\nname: A B\nseed: -1\nclasses: []\n")
    result = datagen("validate", "bad.yaml")
    lines = result.stderr.splitlines()
    assert len(lines) >= 4
    assert all(line.startswith("error: bad.yaml") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["validate", "absent.yaml"], 2, "cannot be read"),
        (["validate", "."], 2, "directory"),
        (["run", "RECIPE", "--workers", "0"], 2, "--workers"),
        (["run", "RECIPE", "--wrokers", "1"], 2, "--wrokers"),
        (["rum"], 2, "rum"),
        (["verify", "small@x"], 2, "expected NAME or NAME@VERSION"),
        (["verify", "../small"], 2, "expected NAME or NAME@VERSION"),
        (["verify", "smal"], 3, "did you mean 'small'"),
        (["verify", "small@9"], 3, "it has 1, 2"),
        (["ls", "smal"], 3, "does not exist"),
        (["show", "small", "cat"], 2, "expected CLASS-ORDINAL"),
        (["show", "small@1", "cat-60"], 3, "from 0 to 59"),
        (["remake", "small@1", "cot-1"], 3, "did you mean 'cat'"),
        (["pull", "small", "out", "--format", "webdatset"], 2, "did you mean 'webdataset'"),
        (["pull", "small", "HOME"], 2, "exists already"),
        (["models", "show", "nose"], 3, "did you mean 'noise'"),
        (["models", "add", "absent"], 2, "absent"),
        (["bench", "--generators", "nois"], 3, "did you mean 'noise'"),
        (["train", "absent.yaml"], 2, "cannot be read"),
        (["train", "RECIPE"], 2, "known field"),
        (["completion", "tcsh"], 2, "tcsh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_each_mistake_has_its_message_and_exit_code(
    published: Path, recipe: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    places = {"RECIPE": str(recipe), "HOME": str(published)}
    result = datagen("--home", published, *(places.get(a, a) for a in arguments))
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("command", [["verify", "x"], ["show", "x"], ["diff", "x", "y"]])
def test_without_a_catalog_nothing_is_found_and_nothing_made(command: list[str]) -> None:
    result = datagen(*command)
    assert result.exit_code == 3
    assert "datagen run RECIPE" in result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATAGEN_DATABASE_URL", "mysql://somewhere/x"),
        ("DATAGEN_STORE_URL", "ftp://somewhere"),
        ("DATAGEN_THREADS_PER_WORKER", "many"),
    ],
)
def test_a_malformed_setting_is_refused(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    result = datagen("run", recipe)
    assert result.exit_code == 2
    assert name in result.stderr


def test_a_failed_job_exits_with_4(recipe: Path) -> None:
    changes = {
        "filters": [{"filter": "blank", "min_contrast": 0.5}],
        "limits": {"max_attempts_per_class": 2.0},
    }
    result = datagen("run", write_recipe(recipe, changes))
    assert (result.exit_code, result.stdout) == (4, "")
    assert "class cat" in result.stderr


def test_damage_exits_with_5_and_every_finding_is_printed(published: Path, tmp_path: Path) -> None:
    with copied_home(published, tmp_path / "home") as home:
        for class_name, ordinal in (("cat", 3), ("dog", 39)):
            row = home.rows(class_name)[ordinal]
            flip_byte(home.shard(row), row.offset + 60)
        folder = home.settings.home
    result = datagen("verify", "small@1", "--home", folder)
    assert result.exit_code == 5
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("changed image")] == [
        "changed image cat-00000003",
        "changed image dog-00000039",
    ]
    assert lines[-1].startswith("small@1 is damaged: 4 findings")
    as_json = datagen("verify", "small@1", "--home", folder, "--json")
    assert as_json.exit_code == 5
    content = one_object(as_json.stdout)
    assert not content["sound"]
    assert len(content["findings"]) == 4
    remade = datagen("remake", "small@1", "cat-3", "--home", folder)
    assert remade.exit_code == 5
    assert "differs" in remade.stdout
    assert datagen("verify", "small@2", "--home", folder).exit_code == 0


def test_a_missing_version_in_the_store_is_not_found(published: Path, tmp_path: Path) -> None:
    with copied_home(published, tmp_path / "home") as home:
        (home.folder() / "manifest.json").unlink()
        folder = home.settings.home
    assert datagen("pull", "small@1", "out", "--home", folder).exit_code == 3
    assert datagen("verify", "small@1", "--home", folder).exit_code == 5


def failing(error: BaseException) -> click.Group:
    """A command line whose only command fails."""

    @click.group(cls=Edge)
    @debug_option
    def group() -> None: ...

    @group.command()
    @debug_option
    def fail() -> None:
        raise error

    return group


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (JobError("no"), 4, "error: no\n"),
        (CatalogError("no"), 6, "error: no\n"),
        (StoreFullError("no"), 6, "error: no\n"),
        (
            InputError("trainer; its last lines:\nno GPU"),
            2,
            "error: trainer; its last lines:\nno GPU",
        ),
        (RefusedError("a\nb", [Problem("", 1, "")] * 2), 2, "error: a\nerror: b\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (KeyError("x"), 1, "error: unexpected KeyError: 'x'; --debug shows where\n"),
        (OSError(5, "broken\nbadly"), 1, "error: unexpected OSError: [Errno 5] broken; "),
    ],
)
def test_no_error_shows_a_traceback_unless_asked(
    error: BaseException, exit_code: int, message: str
) -> None:
    plain = CliRunner().invoke(failing(error), ["fail"])
    assert plain.exit_code == exit_code
    assert plain.stderr.startswith(message)
    assert "Traceback" not in plain.stderr
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        debugged = CliRunner().invoke(failing(error), arguments)
        assert debugged.exit_code == exit_code
        assert "Traceback" in debugged.stderr


def test_an_interrupted_run_exits_with_130_and_goes_on(tmp_path: Path) -> None:
    many = {"classes": [{"name": "cat", "count": 8_000}], "image_size": [32, 32]}
    recipe = write_recipe(tmp_path / "many.json", many)
    command = [*DATAGEN, "run", str(recipe), "--json"]
    process = subprocess.Popen(
        [*command, "--home", "stopped"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(Path().glob("stopped/objects/local/attempts/*/*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, out) == (130, "")
    assert err == "the same command goes on where this one stopped\ninterrupted\n"
    digests = set()
    for home in ("stopped", "calm"):
        done = subprocess.run([*command, "--home", home], capture_output=True, check=True)
        digests.add(json.loads(done.stdout)["digest"])
    assert len(digests) == 1


# --- terminals, shells, start ---------------------------------------------------------------------


def on_a_terminal(*arguments: str | Path, **environ: str) -> str:
    """What the command writes to stderr if that is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*DATAGEN, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"} | environ,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


def test_progress_shows_on_a_terminal_alone(published: Path) -> None:
    command = ["verify", "small", "--home", published]
    coloured = on_a_terminal(*command)
    assert "120/120" in coloured
    assert "\x1b[3" in coloured
    plain = on_a_terminal(*command, NO_COLOR="1")
    assert "120/120" in plain
    assert "\x1b[3" not in plain
    assert datagen(*command).stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_back(shell: str) -> None:
    assert "_DATAGEN_COMPLETE" in succeed("completion", shell)


def test_completion_knows_commands_and_options() -> None:
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        environ = {"_DATAGEN_COMPLETE": "bash_complete", "COMP_WORDS": line}
        done = subprocess.run(
            [sys.executable, "-c", "from datagen.cli import main; main(prog_name='datagen')"],
            env=os.environ | environ | {"COMP_CWORD": str(len(words) - 1)},
            capture_output=True,
            text=True,
            check=True,
        )
        return [found.partition(",")[2] for found in done.stdout.splitlines()]

    assert complete("datagen va") == ["validate"]
    assert "--pilot" in complete("datagen plan --p")


def loaded_after(*arguments: str | Path) -> set[str]:
    """Modules that a fresh interpreter has loaded when the command is done."""
    program = (
        "import json, sys\n"
        "from datagen.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_quick_commands_load_no_heavy_library(published: Path, recipe: Path) -> None:
    helped = loaded_after("--help")
    assert not {*HEAVY, "sqlalchemy", "numpy", "pydantic", "rich"} & helped
    validated = loaded_after("validate", recipe)
    assert not {*HEAVY, "sqlalchemy", "rich"} & validated
    assert not set(HEAVY) & loaded_after("ls", "--home", published)


def test_threads_are_pinned_before_numpy_is_loaded(recipe: Path) -> None:
    """Otherwise an image's bits would depend on the number of cores."""
    program = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy':\n"
        "            print('numpy', os.environ.get('OMP_NUM_THREADS'), file=sys.stderr)\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from datagen.cli import main\n"
        "main(sys.argv[1:])"
    )
    environ = {name: value for name, value in os.environ.items() if name not in PINNED}
    done = subprocess.run(
        [sys.executable, "-c", program, "run", recipe],
        env=environ | {"DATAGEN_THREADS_PER_WORKER": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines() == ["numpy 3"]


@pytest.mark.slow
def test_the_whole_way_on_postgresql_and_s3(
    recipe: Path,
    postgres_url: str,
    s3_url: str,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same bytes as in the embedded home, and every command reads them there."""
    embedded = one_object(succeed("run", recipe, "--json"))
    monkeypatch.setenv("DATAGEN_DATABASE_URL", postgres_url)
    monkeypatch.setenv("DATAGEN_STORE_URL", s3_url)
    monkeypatch.setenv("DATAGEN_S3_ENDPOINT_URL", s3_endpoint)
    made = one_object(succeed("run", recipe, "--json", "--home", "other"))
    assert made["digest"] == embedded["digest"]
    assert made["path"].startswith(s3_url)
    assert "small@1" in succeed("ls")
    assert one_object(succeed("verify", "small", "--json"))["sound"]
    assert "identical" in succeed("remake", "small", "dog-00000000")
    assert "0 changed" in succeed("diff", "small", "small")
    succeed("show", "small", "cat-0")
    succeed("pull", "small", "out", "--format", "imagefolder")
    assert len(list(Path("out").rglob("*.png"))) == 100
    assert one_object(succeed("plan", recipe, "--json"))["published"] == "small@1"
