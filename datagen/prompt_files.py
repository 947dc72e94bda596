"""Prompt lists that stand in files beside a recipe, read into it. Called by recipe.py, for those
that read a recipe from a file: never by the service.

A recipe may come from elsewhere and be sent elsewhere: it gets to no file but those in its own
folder or below.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from datagen.errors import RecipeError
from datagen.faults import Problem, join, show
from datagen.prompt_schema import MAX_LIST, MAX_TEXT, text_fault
from datagen.yaml_reader import MAX_BYTES, load_bytes

MAX_FILES_BYTES = MAX_BYTES // 2  # the recipe with all of its prompts is read and sent again
_LISTS = ("conditioning", "prompt", "lists")


def read_prompt_files(values: Any, folder: Path) -> Iterator[Problem]:
    """In the values of a recipe, puts prompts in place of each {file: NAME} of a class's list.

    values: as the reader gave them, whatever they are. Yields what is wrong with a file.
    """
    for part in _LISTS:
        values = values.get(part) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        return
    total_bytes = 0
    for class_name, given in list(values.items()):
        if not isinstance(given, dict) or "file" not in given:
            continue
        place = join((*_LISTS, class_name))
        if set(given) != {"file"} or not isinstance(given["file"], str):
            yield Problem(place, given, "{file: prompts.txt} and no other field")
            continue
        path, fault = _inside(folder, given["file"])
        if fault is not None:
            yield Problem(f"{place}.file", given["file"], fault)
            continue
        try:
            text = load_bytes(path)
            total_bytes += len(text)
            if total_bytes > MAX_FILES_BYTES:
                wanted = f"prompt files of at most {MAX_FILES_BYTES} bytes together"
                yield Problem(f"{place}.file", given["file"], wanted)
                return
            values[class_name] = _prompts_of(text, given["file"])
        except RecipeError as error:
            wanted = f"a file of prompts; {str(error).replace('YAML or JSON', 'text')}"
            yield Problem(f"{place}.file", given["file"], wanted)


def _inside(folder: Path, name: str) -> tuple[Path, str | None]:
    """The file's path, and what was expected if it lies elsewhere. Links are followed first."""
    relative = PurePosixPath(name)
    path = folder / relative
    wanted = "the name of a file beside the recipe or below, like prompts/nevus.txt"
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        return path, wanted
    if not is_inside or relative.is_absolute() or ".." in relative.parts or "\\" in name:
        return path, wanted
    return path, None


def _prompts_of(content: bytes, name: str) -> list[str]:
    """One prompt a line; blank lines and those that begin with # are none. Raises RecipeError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{name}:{number}: expected UTF-8 text") from None
    prompts = []
    for number, line in enumerate(text.split("\n"), start=1):
        prompt = line.strip()
        if not prompt or prompt.startswith("#"):
            continue
        fault = text_fault(prompt)
        if fault is not None:
            raise RecipeError(f"{name}:{number}: {show(prompt)}: expected {fault}")
        prompts.append(prompt)
    if not 1 <= len(prompts) <= MAX_LIST:
        raise RecipeError(
            f"{name}: {len(prompts)} prompts; expected 1 to {MAX_LIST} of at most {MAX_TEXT} "
            "characters, one a line"
        )
    return prompts
