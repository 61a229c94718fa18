"""Residual blocks of networks, and what a victim makes of images inside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from unlearnable_bench.registry.contract import ImageSet, NotApplicable
from unlearnable_bench.registry.training import TrainedVictim


def weights_by_layer(parts: Sequence[nn.Module]) -> list[list[nn.Parameter]]:
    """Return the parameters of a network, given in parts from input to output, layer by layer as papers count layers.

    A convolution or a linear map begins a layer, those beside a shortcut and inside a gate included: a ResNet-18 has 20. Norms,
    biases and tokens go with the layer before them, what comes before all goes with the first, the head with the last.
    """
    front: list[nn.Parameter] = []
    layers: list[list[nn.Parameter]] = []
    for module in chain.from_iterable(part.modules() for part in parts):
        if isinstance(module, nn.Conv2d | nn.Linear) and module is not parts[-1]:
            layers.append([])
        begun = layers[-1] if layers else front
        begun.extend(module.parameters(recurse=False))
    return [front + layers[0], *layers[1:]] if layers else [front]


def residual_blocks(layers: Sequence[Any], least: int = 1) -> list[Any]:
    """Return those of a network's layers that add their input, or a projection of it, to what they compute.

    They are told by the attribute `shortcut` (ours) or `downsample` (timm). NotApplicable with fewer than `least`.
    """
    blocks = [layer for layer in layers if hasattr(layer, "shortcut") or hasattr(layer, "downsample")]
    if len(blocks) < least:
        raise NotApplicable(f"needs a network of {least} residual blocks or more, this one has {len(blocks)}")
    return blocks


def seen(victim: TrainedVictim, data: ImageSet, block: int) -> Tensor:
    """Return what enters the victim's head, for `block` 0, or the flattened output of its `block`-th residual block: (N, D)."""
    if not block:
        return victim.features(data)
    found: list[Tensor] = []

    def look(layer: Any, given: Any, out: Tensor) -> None:
        found.append(out.detach().float().flatten(1).cpu())

    handle = residual_blocks(victim.layers, block)[block - 1].register_forward_hook(look)
    try:
        victim.features(data)
    finally:
        handle.remove()
    return torch.cat(found)
