"""Stage 2: augmentations, views and policies, which must not depend on the device nor on what a network computes in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpu import Figures, Notes, Setting, must
from gpu.same import agreeing, on_both, pictures
from unlearnable_bench.benchmark.augment import AUGMENTATIONS, Batch
from unlearnable_bench.poisons.numerics import Numerics, seeded
from unlearnable_bench.registry import DEFENSES, _policies, _views
from unlearnable_bench.registry.entry import Entry

EXACT = ("crop", "flip", "flip-alternating", "shift")  # they move 8-bit values as they are
CLOSE = 1e-5  # pixel units
TIES = 1e-3  # part of the values that may lie further apart: at a tie of the nearest pixel, a corner of the hue, a threshold
UNCHANGED = ("friendly-noise", "lfu")  # their noise is made before training; stage 3 has them

IN_BF16 = ("view contrasted", "view contrast", "view jitter and gray", "operation Rotate", "defense ueraser")
FEW = ("crop", "rotate20", "view contrasted", "operation Rotate", "defense cg", "defense cutmix")

View = Callable[[Tensor], Tensor]


def drawn_views() -> dict[str, View]:
    """Return the views that surrogates and contrastive protocols see, drawn from a generator on the device."""

    def dice(x: Tensor) -> torch.Generator:
        return torch.Generator(x.device).manual_seed(0)

    return {
        "crop and flip": lambda x: _views.crop_flip(x, dice(x))(x),
        "shift and flip": lambda x: _views.shift_flip(x, dice(x))(x),
        "jitter and gray": lambda x: _views.jitter_gray(x, dice(x))(x),
        "contrast": lambda x: _views.contrastive_view(x, dice(x), 0.08)(x),
        "contrasted": lambda x: _views.contrasted(x, 0.08),
        "part resized": lambda x: _views.part_resized(x, 24, 0.08),
    }


def operations() -> dict[str, View]:
    """Return every operation of the policies, at strengths over half of its range."""

    def operated(number: int) -> View:
        return lambda x: _policies.operate(
            x, torch.full((len(x),), number, device=x.device), torch.linspace(0.1, 0.6, len(x), device=x.device)
        )

    return {name: operated(number) for number, name in enumerate(_policies.OPERATIONS)}


def augmenting(entry: Entry) -> View:
    """Return what a defense does to a batch."""
    defense = DEFENSES[entry.name](**dict(entry.facts.get("small", {})))

    def view(x: Tensor) -> Tensor:
        labels = torch.arange(len(x), device=x.device) % 4
        rows = torch.nn.functional.one_hot(labels, 4).float()
        changed: Tensor = defense.augment(x, rows if defense.soft else labels)[0]
        return changed

    return view


def all_views() -> dict[str, View]:
    """Return every view by its name, those of defenses among them."""
    found = {f"view {name}": view for name, view in drawn_views().items()}
    found |= {f"operation {name}": view for name, view in operations().items()}
    for entry in DEFENSES.rows:
        if "augment" in entry.hooks and entry.name not in UNCHANGED:
            found[f"defense {entry.name}"] = augmenting(entry)
    return found | {"defense ueraser": DEFENSES["ueraser"](plasma=1.0)._changed}


def run(setting: Setting, notes: Notes) -> None:
    """Compare each on a batch of random images."""
    x = pictures(60).images
    for name in setting.some(list(AUGMENTATIONS), FEW):
        notes.check(f"augmentation {name}", lambda name=name: _augmented(setting, name, x))  # type: ignore[misc]
    views = all_views()
    for name in setting.some(list(views), FEW):
        notes.check(name, lambda name=name: _viewed(setting, views[name], x))  # type: ignore[misc]
    for name in setting.some(list(IN_BF16), FEW):
        notes.check(f"{name}, under autocast", lambda name=name: _under_autocast(setting, views[name], x))  # type: ignore[misc]


def _augmented(setting: Setting, name: str, x: Tensor) -> Figures:
    batch = Batch(32, torch.arange(len(x)), epoch=1, seed=7)
    here, there = on_both(setting.device, lambda device: AUGMENTATIONS[name](x.to(device), batch))
    if name in EXACT:
        must(torch.equal(here, there.cpu()), f"{agreeing(here, there):.4%} of the values are the same; expected all")
        return {"agreeing": 1.0}
    return _close(here, there)


def _viewed(setting: Setting, view: View, x: Tensor) -> Figures:
    return _close(*on_both(setting.device, lambda device: view(x.to(device).float() / 255)))


def _close(here: Tensor, there: Tensor) -> Figures:
    part = agreeing(here, there, CLOSE)
    figures = {"agreeing": part, "largest": float((here.double() - there.cpu().double()).abs().max())}
    must(part >= 1 - TIES, f"{part:.4%} of the values are within {CLOSE}; expected {1 - TIES:.1%}", figures)
    return figures


def _under_autocast(setting: Setting, view: View, x: Tensor) -> Figures:
    """What a network computes in must not reach positions and colors."""
    pixels, found = x.to(setting.device).float() / 255, []
    for bf16 in (False, True):
        kind = setting.device.partition(":")[0]
        with seeded(0, Numerics(), setting.device), torch.autocast(kind, torch.bfloat16, enabled=bf16):
            found.append(view(pixels))
    plain, mixed = found
    must(torch.equal(plain, mixed), f"{agreeing(plain, mixed):.4%} of the values are the same; expected all")
    return {"agreeing": 1.0}
