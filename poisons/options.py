"""How a published file is to be read: the options of `bench poisons import`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.registry import Budget, EntryError

UNITS = ("auto", "images", "pixels", "levels", "radius", "normalised")
ORDERS = ("index", "class", "match")
ALLOWED = {"units": UNITS, "order": ORDERS, "negative": ("keep", "drop"), "rounding": ("nearest", "down")}


@dataclass(frozen=True)
class ImportOptions:
    """How a file is to be read; all of it goes into the manifest."""

    units: str = "auto"  # images; noise in pixel units, 8-bit levels, units of the radius or of the channels' deviations
    order: str = "index"  # row i is image i; the t-th row of a class is its t-th image; or match by likeness
    negative: str = "keep"  # of noise; drop: as the loader of Huang et al. does
    rounding: str = "nearest"  # down: truncate, as most authors' loaders do
    norm: str = "none"
    epsilon: float = 0.0  # pixel units

    def __post_init__(self) -> None:
        for name, values in ALLOWED.items():
            if getattr(self, name) not in values:
                raise EntryError(f"--{name} {getattr(self, name)}: expected {', '.join(values)}")
        Budget(self.norm, self.epsilon)
        if self.units == "radius" and not self.epsilon:
            raise EntryError("--units radius: noise in units of the radius needs the radius, --epsilon 8/255")

    def rounded(self, levels: Tensor) -> np.ndarray:
        """Return 8-bit images from levels, cut to 0..255 and rounded."""
        levels = levels.clamp(0, 255)
        whole = levels.floor() if self.rounding == "down" else levels.round()
        images: np.ndarray = whole.to(torch.uint8).numpy()
        return images
