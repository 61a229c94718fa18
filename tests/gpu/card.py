"""Stage 1: the card, the settings of its kernels, the compiler, and what is installed. Without it nothing else is tried."""

from __future__ import annotations

import importlib
import os
import platform
import shutil

import torch

from gpu import Figures, Notes, Setting, must
from unlearnable_bench.benchmark import provenance
from unlearnable_bench.poisons.numerics import Numerics, compiles, seeded
from unlearnable_bench.registry import _vision

MODULES = ("pydantic", "platformdirs", "psutil", "typer", "rich", "timm", "torchvision", "sklearn", "PIL")


def run(setting: Setting, notes: Notes) -> None:
    """Look at what is there."""
    notes.check("installed", _installed)
    notes.check("device", lambda: _device(setting))
    notes.check("fp32 is fp32", lambda: _exact_products(setting))
    if setting.on_gpu:
        notes.check("compiler", lambda: _compiler(setting))
    else:
        notes.skip("compiler", "nothing is compiled on a CPU")


def _installed() -> Figures:
    _vision.prepare()
    missing = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(f"{name} ({error})")
    must(not missing, f"cannot be imported: {', '.join(missing)}; carry wheels and name their folder by --wheels")
    return {"tree": provenance.tree(), "commit": provenance.commit(), **provenance.versions()}


def _device(setting: Setting) -> Figures:
    found: Figures = {"name": provenance.device_name(setting.device), "cores": os.cpu_count(), "system": platform.platform()}
    if setting.on_gpu:
        card = torch.cuda.get_device_properties(setting.device)
        memory, whole = torch.cuda.mem_get_info(setting.device)
        found |= {"capability": f"{card.major}.{card.minor}", "free": memory, "memory": whole, "cuda": str(torch.version.cuda)}
        found["cudnn"] = str(torch.backends.cudnn.version())
    found["numerics"] = Numerics.choose(setting.device, "auto").on(setting.device)
    return found


def _exact_products(setting: Setting) -> Figures:
    """TF32 has ten bits, fp32 has 23: a sum of 512 products of numbers near one tells them apart."""
    with seeded(0, Numerics(), setting.device):
        a, b = torch.rand(512, 512), torch.rand(512, 512)
        found = (a.to(setting.device) @ b.to(setting.device)).cpu().double()
    error = float(((found - a.double() @ b.double()).abs() / found).max())
    must(error < 1e-5, f"a product in fp32 is off by {error:.1e} of its value; expected less than 1e-5")
    return {"error": error}


def _compiler(setting: Setting) -> Figures:
    works = compiles(setting.device)
    return {"works": works, "cc": shutil.which("cc") or shutil.which("gcc") or "none"}
