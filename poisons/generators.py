"""Makes the noise of published files that hold a generator of it: coefficients of AR, or the network of DeepConfuse."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.poisons.options import ImportOptions
from unlearnable_bench.registry import ATTACKS, EntryError, ImageSet, Job

PAINTED = {f"dconv_down{n + 1}": f"down.{n}" for n in range(4)} | {f"dconv_up{3 - n}": f"up.{n}" for n in range(3)}
PAINTED |= {"conv_last": "last"}  # blocks of DeepConfuse's generator -> ours


def from_coefficients(images: np.ndarray, weights: Tensor, clean: ImageSet, options: ImportOptions) -> str:
    """Run the generator of AR with the coefficients of a file; the borders are drawn with seed 0. Return the units."""
    if options.norm not in ("l2", "linf"):
        raise EntryError(
            "the file holds coefficients of AR, which have no radius: give --norm l2 --epsilon 1.0, as its authors"
        )
    if not torch.isfinite(weights).all() or weights[..., 2, 2].abs().max() > 0:
        raise EntryError("the file's coefficients are not those of AR: the last of each 3x3 must be 0")
    attack = ATTACKS["ar"](norm=options.norm, epsilon=options.epsilon)
    for where, delta in attack.noise(weights, clean, Job()):
        images[where] = options.rounded(clean.images[where].float() + 255 * delta)
    return "coefficients"


def from_generator(images: np.ndarray, weights: Mapping[str, Tensor], clean: ImageSet, options: ImportOptions) -> str:
    """Run the generator of DeepConfuse with the weights of a file, in evaluation mode. Return the units."""
    if options.norm != "linf" or not options.epsilon:
        raise EntryError(
            "the file holds the generator of DeepConfuse, whose noise is in units of the radius: give --norm linf "
            "--epsilon 0.032, as its authors"
        )
    named = dict(_renamed(key, value) for key, value in weights.items())
    if min(clean.info.shape[1:]) < 8:
        raise EntryError("the generator of DeepConfuse needs images of 8x8 pixels or more")
    try:
        _paint(images, named, clean, options)
    except (RuntimeError, IndexError) as error:
        why = str(error).strip().splitlines()[-1].strip()[:200]
        raise EntryError(f"the file's weights are not those of DeepConfuse's generator for these images: {why}") from None
    return "weights"


def _renamed(key: str, value: Tensor) -> tuple[str, Tensor]:
    """Return a weight of the authors' generator under our name."""
    block, _, rest = key.removeprefix("module.").partition(".")
    weight = value.float() if value.is_floating_point() else value
    return f"{PAINTED.get(block, block)}.{rest}", weight


def _paint(images: np.ndarray, weights: Mapping[str, Tensor], clean: ImageSet, options: ImportOptions) -> None:
    from unlearnable_bench.registry._painter import Painter

    width = weights["down.0.0.weight"].shape[0]
    with torch.device("meta"):  # takes no memory, whatever width the file claims
        painter = Painter(clean.info.shape[0], width)
    painter.load_state_dict(weights, assign=True)
    painter.eval()
    with torch.no_grad():
        for where in clean.blocks():
            noise = options.epsilon * painter(clean.pixels(where))
            if not torch.isfinite(noise).all():
                raise EntryError("the file's weights give noise that is not finite")
            images[where] = options.rounded(clean.images[where].float() + 255 * noise)
