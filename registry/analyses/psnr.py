"""How far purified images lie from the clean ones."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unlearnable_bench.registry import ANALYSES, Analysis, Context
from unlearnable_bench.registry._figures import decibels
from unlearnable_bench.registry._papers import D_VAE


@ANALYSES.register("psnr")
@dataclass(frozen=True)
class Psnr(Analysis):
    """Peak signal-to-noise ratio between what the victim trains on and the clean images, dB, peak 1.

    Table 17 of D-VAE, which does not say how it averages: `psnr` is of the mean square over the whole set, `psnr_image` the
    mean over images (without those that are left as they are), `mse` the mean square; `psnr_poison` is that of the poison
    before purifying, `psnr_input` between the poison and what a defense makes of it (figures 2 and 5). Nothing is given where
    nothing differs.
    """

    display_name = "Peak signal-to-noise ratio"
    label = "PSNR"
    paper = D_VAE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "purified")

    def measure(self, context: Context) -> dict[str, float]:
        clean, poison, purified = context.clean, context.poison, context.purified
        pairs = {"psnr": (purified, clean), "psnr_poison": (poison, clean), "psnr_input": (purified, poison)}
        figures: dict[str, float] = {}
        for name, (images, others) in pairs.items():
            squares = torch.cat(
                [
                    (images.pixels(where).double() - others.pixels(where).double()).square().flatten(1).mean(1)
                    for where in clean.batches(1024)
                ]
            )  # (N,)
            figures |= decibels(name, float(squares.mean()))
            if name == "psnr":
                figures["mse"] = float(squares.mean())
                differ = squares[squares > 0]
                figures |= {"psnr_image": float((-10 * differ.log10()).mean())} if len(differ) else {}
        return figures
