"""Stage 7: what victims of `fast` reach, beside what they reach on a CPU, and in bf16 beside fp32. The cells' records count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

from gpu import Figures, Notes, Setting, must
from gpu.pool import Pool, run_cells
from unlearnable_bench.benchmark import grid as grids
from unlearnable_bench.registry.spec import write_spec
from unlearnable_bench.results import Cell, Record, Records

ERRORS = 3.0  # standard errors between the means of GPU and CPU
PRECISION = 0.007  # fraction, between the means of bf16 and fp32
ATTACKS = ("none", "lsp", "random-noise(kind=class)")
SEEDS = (0, 1, 2)


def cells_of(setting: Setting) -> dict[tuple[str, str], list[Cell]]:
    """Return the cells by attack and precision, those in the protocol's own precision first."""
    found = {}
    for precision in ("auto", "fp32"):
        for attack in ATTACKS[:2] if setting.tiny else ATTACKS:
            found[attack, precision] = _seeds(setting, attack, precision)
    return found


def _seeds(setting: Setting, attack: str, precision: str) -> list[Cell]:
    protocol, dataset, network = ("fast", "cifar10", "resnet9")
    if setting.tiny:
        protocol, dataset, network = ("quick@0.1", "digits(per_class=8,test_per_class=4)", "small-cnn")
    fields = {"precision": precision, "threads": 1}  # one thread is what `fast` says anyway
    axes = {"protocol": [write_spec(protocol, fields)], "dataset": [dataset], "attack": [attack], "architecture": [network]}
    seeds = SEEDS[:2] if setting.tiny else SEEDS
    return grids.expand(grids.adhoc(axes | {"seed": [str(seed) for seed in seeds]}))[0]


def run(setting: Setting, notes: Notes) -> None:
    """Run the cells, then compare whatever was measured in time."""
    groups = cells_of(setting)
    cells = [cell for group in groups.values() for cell in group]
    pools: list[Pool] = []

    def measured() -> Figures:
        pools.append(run_cells(setting, cells, name="outcomes", workers=setting.workers))
        must(not pools[0].failures, pools[0].complaint())
        return {"cells": len(cells), "done": len(pools[0].done), "workers": setting.workers}

    notes.check("cells", measured)
    if not pools:
        return
    values = {key: accuracies(pools[0].records, group) for key, group in groups.items()}
    past = list(Records(setting.past)) if setting.past.is_dir() else []
    for attack in dict.fromkeys(attack for attack, _ in groups):
        there = of_a_cpu(past, groups[attack, "auto"][0])
        ours, exact = values[attack, "auto"], values[attack, "fp32"]
        if min(len(ours), len(there)) < 2:
            notes.skip(f"{attack}, beside the CPU", f"{len(ours)} values here, {len(there)} of a CPU; two of each are needed")
        else:
            notes.check(f"{attack}, beside the CPU", lambda ours=ours, there=there: beside(ours, there))  # type: ignore[misc]
        if min(len(ours), len(exact)) < 1:
            notes.skip(f"{attack}, bf16 beside fp32", f"{len(ours)} values in bf16, {len(exact)} in fp32")
        else:
            notes.check(f"{attack}, bf16 beside fp32", lambda ours=ours, exact=exact: precisions(ours, exact))  # type: ignore[misc]


def accuracies(records: Records, cells: Sequence[Cell]) -> list[float]:
    """Return the test accuracies of the cells that have a record."""
    found = [records.read(cell.id) for cell in cells]
    return [one.metrics.test_acc for one in found if one and one.metrics and one.metrics.test_acc is not None]


def of_a_cpu(past: Sequence[Record], cell: Cell) -> list[float]:
    """Return the test accuracies of records of the same cell, seeds apart, that were measured on a CPU."""
    found = []
    for record in past:
        same = {**record.cell.texts, "seed": ""} == {**cell.texts, "seed": ""} and record.cell.measure == cell.measure
        if same and record.device.startswith("cpu") and record.metrics and record.metrics.test_acc is not None:
            found.append(record.metrics.test_acc)
    return found


def beside(ours: Sequence[float], theirs: Sequence[float]) -> Figures:
    """Compare two means; the variance over seeds is pooled over both."""
    pooled = (variance(ours) * (len(ours) - 1) + variance(theirs) * (len(theirs) - 1)) / (len(ours) + len(theirs) - 2)
    error = math.sqrt(pooled * (1 / len(ours) + 1 / len(theirs)))
    apart = fmean(ours) - fmean(theirs)
    figures = {"mean": fmean(ours), "mean_of_cpu": fmean(theirs), "standard_error": error, "of": [len(ours), len(theirs)]}
    must(
        abs(apart) <= ERRORS * error,
        f"the means lie {apart:+.4f} apart, {ERRORS:g} standard errors are {ERRORS * error:.4f}",
        figures,
    )
    return figures


def precisions(ours: Sequence[float], exact: Sequence[float]) -> Figures:
    """Compare the means of the protocol's own precision, bf16 on a GPU, and of fp32."""
    apart = fmean(ours) - fmean(exact)
    figures = {"mean": fmean(ours), "mean_in_fp32": fmean(exact), "of": [len(ours), len(exact)]}
    must(abs(apart) <= PRECISION, f"the means lie {apart:+.4f} apart; expected {PRECISION} at most", figures)
    return figures
