"""Stage 6: what goes wrong on purpose, and what one cell leaves to the next."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gpu import DeviationError, Figures, Notes, Setting, must
from gpu.pool import Pool, run_cells
from unlearnable_bench.benchmark import cell, schedule
from unlearnable_bench.benchmark import grid as grids
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.registry import DEFENSES
from unlearnable_bench.results import Cell, Records, Workspace

MEGABYTES = 8  # that a cell may leave on the card
SMALL = "digits(per_class=8,test_per_class=4)"
KINDS = [  # five kinds of cells: attack, defense
    ("none", "none"),
    ("lsp", "cutmix"),
    ("em(surrogate=small-cnn,max_rounds=1,noise_steps=1)", "at(steps=1)"),
    ("random-noise", "jpeg(quality=10)"),
    ("none", "early-stop"),
]
PLUG_IN = '''
    """Defenses that go wrong on purpose."""
    from dataclasses import dataclass
    import torch
    from unlearnable_bench.registry import Defense

    @dataclass(frozen=True)
    class OutOfRange(Defense):
        """Reads beyond the end of a tensor, which a kernel asserts."""

        def augment(self, x, y):
            if not x.is_cuda:
                raise torch.AcceleratorError("CUDA error: device-side assert triggered")
            torch.zeros(4, device=x.device)[torch.full((8,), 9, device=x.device)].sum().item()
            return x, y

    @dataclass(frozen=True)
    class TooLarge(Defense):
        """Asks for more memory than there is."""

        def augment(self, x, y):
            if not x.is_cuda:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return x, y + torch.zeros(1 << 42, device=x.device)[0]
'''
POINTS = "[bench.defenses]\nout-of-range = gpu_faults:OutOfRange\ntoo-large = gpu_faults:TooLarge\n"


def run(setting: Setting, notes: Notes) -> None:
    """Failures in workers of their own, then five kinds of cells in this process."""
    _install(setting.space.root / "faulty")
    setting = replace(setting, space=Workspace(setting.space.root / "faults"))  # these records are of no use to anybody
    notes.check("a device-side assert, then another cell", lambda: _survived(setting, "out-of-range", "gpu-error", 1))
    notes.check("no memory, then another cell", lambda: _survived(setting, "too-large", "gpu-memory", 0))
    if setting.on_gpu:
        notes.check("a mask of a worker", _mask)
    else:
        notes.skip("a mask of a worker", "there is no GPU")
    notes.check("five kinds of cells in one process", lambda: _five_kinds(setting))


def _install(site: Path) -> None:
    """Put the faulty defenses where this process and its children find them, as pip would."""
    info = site / "gpu_faults-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (site / "gpu_faults.py").write_text(textwrap.dedent(PLUG_IN))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gpu-faults\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    sys.path.append(str(site))
    vars(DEFENSES).pop("rows", None)  # looked for anew
    os.environ["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(site)])


def _cells(attack: str, defense: str, seed: int = 0) -> list[Cell]:
    axes = {
        "protocol": ["quick@0.1(threads=1)"],
        "dataset": [SMALL],
        "attack": [attack],
        "defense": [defense],
        "seed": [str(seed)],
    }
    return grids.expand(grids.adhoc(axes))[0]


def _survived(setting: Setting, defense: str, kind: str, restarts: int) -> Figures:
    """One worker takes a cell that goes wrong and a sound one; the sound one has what it has in a process of its own."""
    faulty, sound = _cells("none", defense), _cells("none", "none", seed=restarts)
    together = run_cells(setting, [*faulty, *sound], name=defense)
    must(list(together.failures) == [faulty[0].id], f"failures are {together.failures}; expected that of {defense}")
    found = together.failures[faulty[0].id].partition(":")[0]
    must(found == kind, f"the failure is {together.failures[faulty[0].id]!r}; expected {kind}")
    must(together.restarts == restarts, f"{together.restarts} workers took the place of another; expected {restarts}")
    after = _losses(together, sound[0].id)
    Records(setting.space.records).path(sound[0].id).unlink()
    alone = _losses(run_cells(setting, sound, name="sound"), sound[0].id)
    must(after == alone, f"the next cell has losses of {after}, alone it has {alone}")
    return {"loss_of_next_cell": after[-1], "restarts": together.restarts}


def _losses(pool: Pool, cell_id: str) -> list[float]:
    record = pool.records.read(cell_id)
    if record is None or record.metrics is None:
        raise DeviationError(f"the cell {cell_id} was not measured; failures: {pool.failures}")
    return record.metrics.curve.test_loss


def _mask() -> Figures:
    """A worker must see the one GPU that its mask names."""
    name = schedule.names_of_gpus(schedule.visible_gpus("cuda"))[-1]
    code = "import torch; print(torch.cuda.device_count(), torch.cuda.get_device_name(0))"
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": name}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    count, _, card = done.stdout.strip().partition(" ")
    must(count == "1", f"under the mask {name!r} a process sees {count or 'no'} GPUs: {done.stderr[-200:]}")
    must(card == torch.cuda.get_device_name(0), f"under the mask {name!r} a process sees {card}")
    return {"mask": name}


def _five_kinds(setting: Setting) -> Figures:
    """Memory after each cell is what it was after the first, which loads the data and the libraries."""
    store = cell.open_store(setting.space.poisons, setting.device, lambda done, total: None)
    left, accuracies = [], []
    for attack, defense in KINDS:
        task = Task.of(_cells(attack, defense)[0])
        record = cell.run_cell(task, store)
        assert record.metrics is not None
        accuracies.append(record.metrics.test_acc)
        del record
        cell.release(setting.device)
        left.append(_held(setting))
    more = max((held - left[0]) / 2**20 for held in left)
    figures = {"megabytes_left": more, "accuracies": accuracies}
    must(more <= MEGABYTES, f"the cells left {more:.1f} MB on the device; expected {MEGABYTES} at most", figures)
    return figures


def _held(setting: Setting) -> int:
    """Bytes of tensors that are alive: on the GPU, or on a CPU those that the garbage collector knows."""
    if setting.on_gpu:
        torch._C._cuda_clearCublasWorkspaces()
        return torch.cuda.memory_allocated(setting.device)
    return sum(found.nbytes for found in gc.get_objects() if issubclass(type(found), Tensor))
