"""What commands print: results on stdout, as aligned text or as one JSON object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from datagen.faults import plural as plural

MAX_ROWS = 20


def print_json(content: Mapping[str, Any]) -> None:
    """One object on one line, for scripts."""
    click.echo(json.dumps(content, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    """Numbers to the right, words to the left."""
    shown = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(name), *(len(row[i]) for row in shown)) if shown else len(name)
        for i, name in enumerate(header)
    ]
    numeric = [
        bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(widths))
    ]
    for row in [list(header), *shown]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def print_counts(counts: Mapping[str, Mapping[str, int]]) -> None:
    """counts: class name -> split -> images, the largest split first. The total always, of many
    classes the first."""
    totals = Counter[str]()
    for by_split in counts.values():
        totals.update(by_split)
    splits = sorted(totals, key=lambda split: (-totals[split], split))
    rows: list[list[str | int]] = []
    for name, by_split in list(counts.items())[:MAX_ROWS]:
        numbers = [by_split.get(split, 0) for split in splits]
        rows.append([name, *numbers, sum(numbers)])
    if len(counts) > MAX_ROWS:
        rest = list(counts.values())[MAX_ROWS:]
        numbers = [sum(by_split.get(split, 0) for by_split in rest) for split in splits]
        rows.append([f"{len(rest):,} more classes", *numbers, sum(numbers)])
    if len(rows) > 1:
        rows.append(["total", *(totals[split] for split in splits), totals.total()])
    print_table(["class", *splits, "images"], rows)


def print_rejections(
    rejections: Mapping[str, Mapping[str, int]], *, kept: Mapping[str, Mapping[str, int]]
) -> None:
    """rejections: class name -> reason -> attempts. kept: class name -> split -> images."""
    reasons = sorted({reason for by_reason in rejections.values() for reason in by_reason})
    rows: list[list[str | int]] = []
    for name, by_reason in list(rejections.items())[:MAX_ROWS]:
        numbers = [by_reason.get(reason, 0) for reason in reasons]
        num_kept = sum(kept.get(name, {}).values())
        rows.append([name, num_kept + sum(numbers), *numbers, num_kept])
    print_table(["class", "attempts", *reasons, "kept"], rows)


def _cell(value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def size_text(num_bytes: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def duration_text(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest_s} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 100 else f"{hours / 24:.0f} days"


def time_text(seconds_since_epoch: float) -> str:
    """ISO 8601, UTC, to the second."""
    moment = datetime.fromtimestamp(seconds_since_epoch, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
