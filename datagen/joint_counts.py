"""Counts of pairs of values, given the counts of each: whole numbers with exact margins, as near to
independence as those can be. Called by prompts.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Table = NDArray[np.int64]
_NEVER = np.int64(1 << 60)


def joint_counts(rows: Sequence[int], columns: Sequence[int]) -> _Table:
    """(len(rows), len(columns)) int64 whose rows and columns sum to the counts given, which sum to
    the same number, at most 10^7: the table of the least sum of squares to rows * columns / sum.

    A transport problem of convex costs: negative cycles are cancelled until there is none (Klein
    1967, Management Science 14; optimal for convex costs: Ahuja, Magnanti and Orlin 1993, Network
    Flows, theorem 14.1). All costs are whole numbers, so every machine finds the same table.
    """
    row_counts, column_counts = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    total = int(row_counts.sum())
    table = _first_table(row_counts, column_counts)
    wanted = np.outer(row_counts, column_counts)  # total times the independent table
    while True:
        over = 2 * (table * total - wanted)
        add = over + total  # total times what one more costs
        take = np.where(table > 0, total - over, _NEVER)
        cycle = _negative_cycle(add, take)
        if not cycle:
            return table
        for row, column, change in cycle:
            table[row, column] += change


def _first_table(rows: _Table, columns: _Table) -> _Table:
    """Row by row its share of what is left of each column: the largest remainders round up."""
    table = np.zeros((len(rows), len(columns)), np.int64)
    left = columns.copy()
    for row, count in enumerate(rows):
        total = max(int(left.sum()), 1)
        table[row] = count * left // total
        remainder = count * left % total
        missing = int(count - table[row].sum())
        table[row, np.argsort(-remainder, kind="stable")[:missing]] += 1
        left -= table[row]
    return table


def _negative_cycle(add: _Table, take: _Table) -> list[tuple[int, int, int]]:
    """Cells that gain or lose one, in turn around a cycle that pays; empty if none does.

    Bellman and Ford's method, from every row at once: from row i to column j costs add[i, j], and
    back take[i, j]. A cycle among the predecessors is a negative one.
    """
    num_rows, num_columns = add.shape
    row_cost = np.zeros(num_rows, np.int64)
    column_cost = np.full(num_columns, _NEVER)
    row_before = np.full(num_rows, -1)  # the column that a row is reached from
    column_before = np.full(num_columns, -1)
    while True:
        _relax(row_cost[:, None] + add, column_cost, column_before)
        changed = _relax(column_cost[:, None] + take.T, row_cost, row_before)
        if not changed.size:
            return []
        cycle = _cycle_before(int(changed[0]), row_before, column_before)
        if cycle:
            return cycle


def _relax(costs: _Table, best: _Table, before: _Table) -> _Table:
    """costs: (from, to). Lowers best and sets before where a way is cheaper; returns where."""
    nearest = costs.argmin(axis=0)
    found = costs[nearest, np.arange(costs.shape[1])]
    changed = np.flatnonzero(found < best)
    best[changed], before[changed] = found[changed], nearest[changed]
    return changed


def _cycle_before(
    row: int, row_before: _Table, column_before: _Table
) -> list[tuple[int, int, int]]:
    met: dict[int, int] = {}
    steps: list[tuple[int, int, int]] = []
    while row not in met:
        met[row] = len(steps)
        column = int(row_before[row])
        if column < 0:
            return []
        origin = int(column_before[column])
        steps += [(row, column, -1), (origin, column, 1)]
        row = origin
    return steps[met[row] :]
