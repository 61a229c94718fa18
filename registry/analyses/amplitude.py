"""How large perturbations are: what was published, or what a defense takes them for."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from unlearnable_bench.registry import ANALYSES, Analysis, Context, NotApplicable
from unlearnable_bench.registry._figures import decibels
from unlearnable_bench.registry._papers import D_VAE


@ANALYSES.register("amplitude")
@dataclass(frozen=True)
class Amplitude(Analysis):
    """Mean norms of the perturbations over the poisoned images, in pixel units, and their mean square and PSNR.

    Table 10 of D-VAE. `of=poison` is the difference of the 8-bit images, `of=estimate` the perturbations that a purifier
    found and kept as `p_hat`, with their distance to the true ones. Figures: `l0_norm` (changed pixel positions), `l1_norm`,
    `l2_norm`, `linf_norm`, `linf_largest`; `mse` with `mse_1e-4` and `psnr` (peak 1, of the mean square over all images), of
    the perturbations themselves or, for estimates, of their difference to the true ones.
    """

    of: Literal["poison", "estimate"] = "poison"  # the poison's perturbations, or those that the defense d-vae finds

    display_name = "Size of perturbations"
    label = "Size"
    paper = D_VAE
    needs: ClassVar[tuple[str, ...]] = ("clean", "poison", "purify-log")

    def measure(self, context: Context) -> dict[str, float]:
        rows = torch.nonzero(context.chosen).flatten()
        if not len(rows):
            raise NotApplicable("no image is poisoned, there is no perturbation to measure")
        kept = context.purify_kept("p_hat") if self.of == "estimate" else None
        if self.of == "estimate" and kept is None:
            raise NotApplicable("no defense of the cell kept the perturbations that it found (p_hat); d-vae does")
        sums = dict.fromkeys(("l0_norm", "l1_norm", "l2_norm", "linf_norm"), 0.0)
        largest = squares = 0.0
        for part in rows.split(1024):
            levels = context.poison.images[part].short() - context.clean.images[part].short()
            delta = true = levels.double() / 255  # (n, C, H, W)
            if kept is not None:
                delta = torch.from_numpy(kept[part.numpy()].astype("float64"))
            flat = delta.flatten(1)
            sums["l0_norm"] += float((delta != 0).any(1).sum())
            sums["l1_norm"] += float(flat.abs().sum())
            sums["l2_norm"] += float(flat.norm(dim=1).sum())
            sums["linf_norm"] += float(flat.abs().amax(1).sum())
            largest = max(largest, float(flat.abs().max()))
            squares += float((delta if kept is None else delta - true).square().sum())
        mse = squares / (len(rows) * math.prod(context.clean.info.shape))
        figures = {name: total / len(rows) for name, total in sums.items()}
        return figures | {"linf_largest": largest, "mse": mse, "mse_1e-4": 1e4 * mse, **decibels("psnr", mse)}
