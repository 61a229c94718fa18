"""Stage 8: how fast the parts are: images and FLOPs a second, the part of the matrix peak, and what was estimated before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from speed.engine import images, matrix_peak, timed
from torch.nn import functional as F

from gpu import Figures, Notes, Setting
from unlearnable_bench.benchmark.train import Training, judge_network
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, Defense, Protocol

ROUNDS = 3
FILE = "speed.json"  # in the workspace: what later stages plan by


@dataclass(frozen=True)
class Case:
    """One network under one batch; estimates are those that were counted before any GPU was at hand, images per second."""

    network: str
    batch: int
    bare: float = 0.0
    loop: float = 0.0
    judging: float = 0.0
    adversarial: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.network}, batch {self.batch}"


CASES = (
    Case("resnet9", 512),
    Case("resnet9", 128, bare=256_000, loop=88_000, judging=267_000),
    Case("resnet18", 128, bare=56_000, loop=43_000, judging=120_000, adversarial=5_800),
)


def run(setting: Setting, notes: Notes) -> None:
    """Measure alone on the device: nothing else of this script runs meanwhile."""
    peaks: dict[str, float] = {}
    for dtype in (torch.float32,) if setting.tiny else (torch.bfloat16, torch.float32):
        notes.check(f"matrix product, {dtype}", lambda dtype=dtype: _peak(setting, dtype, peaks))  # type: ignore[misc]
    rates: dict[str, float] = {}
    for case in (Case("small-cnn", 16),) if setting.tiny else CASES:
        for name, estimate in (
            ("bare", case.bare),
            ("loop", case.loop),
            ("judging", case.judging),
            ("PGD-10", case.adversarial),
        ):
            notes.check(
                f"{case.name}, {name}",
                lambda case=case, name=name, estimate=estimate: _measured(setting, case, name, estimate, peaks, rates),  # type: ignore[misc]
            )
    (setting.space.root / FILE).write_text(json.dumps(rates))


def _peak(setting: Setting, dtype: torch.dtype, peaks: dict[str, float]) -> Figures:
    with seeded(0, Numerics(), setting.device):
        peaks[str(dtype)] = matrix_peak(setting.device, dtype)
    return {"tflops": peaks[str(dtype)] / 1e12}


def _measured(
    setting: Setting, case: Case, name: str, estimate: float, peaks: dict[str, float], rates: dict[str, float]
) -> Figures:
    numerics = Numerics.choose(setting.device, "auto", 1)
    with seeded(0, numerics, setting.device):
        count, work, passes = MEASURED[name](setting, case, numerics)
        rate = count / _seconds(setting, work)
        flops = _flops(case)
    achieved = rate * flops * passes
    peak = peaks.get("torch.bfloat16" if numerics.dtype == "bf16" else "torch.float32", 0.0)
    if name == "loop":
        rates[case.network] = max(achieved / 2, rates.get(case.network, 0.0))
    figures = {"images_per_second": rate, "tflops": achieved / 1e12, "numerics": numerics.on(setting.device)}
    figures |= {"part_of_peak": achieved / peak} if peak else {}
    return figures | ({"estimate": estimate, "of_estimate": rate / estimate} if estimate else {})


def _seconds(setting: Setting, work: Callable[[], object]) -> float:
    """Return the least seconds of some rounds, the first of which only warms up."""
    work()
    return min(timed(work, setting.device) for _ in range(ROUNDS))


def _flops(case: Case) -> float:
    """FLOPs of a forward pass of one image."""
    few = images(case.batch)
    training = Training(ARCHITECTURES[case.network](10), few, Protocol(epochs=1, batch=case.batch), (), "cpu", Numerics())
    return training.work(ARCHITECTURES[case.network](10)) / (3 * case.batch)


Work = tuple[int, Callable[[], object], float]  # images of a call, the call, and its passes in forward ones


def _bare(setting: Setting, case: Case, numerics: Numerics) -> Work:
    """Steps on one batch that lies ready: what no loop can beat."""
    net = ARCHITECTURES[case.network](10).to(setting.device, memory_format=torch.channels_last).train()
    sgd = torch.optim.SGD(net.parameters(), 0.01, 0.9, fused=True if setting.on_gpu else None)
    x = torch.rand(case.batch, 3, 32, 32, device=setting.device).contiguous(memory_format=torch.channels_last)
    y = torch.arange(case.batch, device=setting.device) % 10
    steps = 1 if setting.tiny else 50

    def work() -> None:
        for _ in range(steps):
            with torch.autocast(x.device.type, torch.bfloat16, enabled=numerics.dtype == "bf16"):
                loss = F.cross_entropy(net(x), y)
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()

    return steps * case.batch, work, 3


def _epoch(
    setting: Setting, case: Case, numerics: Numerics, steps: int, chain: tuple[Defense, ...]
) -> tuple[int, Callable[[], object]]:
    """Epochs of the training loop on random images."""
    protocol = Protocol(epochs=1, batch=case.batch, lr=0.01, augmentation=("crop", "flip"))
    net = ARCHITECTURES[case.network](10)
    training = Training(net, images(steps * case.batch), protocol, chain, setting.device, numerics)

    def work() -> None:
        training.step = 0
        training._one_epoch()

    return steps * case.batch, work


def _loop(setting: Setting, case: Case, numerics: Numerics) -> Work:
    return *_epoch(setting, case, numerics, 1 if setting.tiny else 50, ()), 3


def _adversarial(setting: Setting, case: Case, numerics: Numerics) -> Work:
    at = DEFENSES["at"]()
    return *_epoch(setting, case, numerics, 1 if setting.tiny else 5, (at,)), 3 * at.cost


def _judging(setting: Setting, case: Case, numerics: Numerics) -> Work:
    net = ARCHITECTURES[case.network](10).to(setting.device, memory_format=torch.channels_last)
    test = images(16 if setting.tiny else 10_000)
    return len(test), lambda: judge_network(net, test, setting.device, 0, numerics.dtype == "bf16"), 1


MEASURED: dict[str, Callable[[Setting, Case, Numerics], Work]] = {
    "bare": _bare,
    "loop": _loop,
    "judging": _judging,
    "PGD-10": _adversarial,
}


def read_rates(folder: Path) -> dict[str, float]:
    """Return multiply-adds a second of the training loop by network, empty where nothing was measured."""
    path = folder / FILE
    found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    return found
