"""Residual blocks of networks, and what a victim makes of images inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from registry.contract import ImageSet, NotApplicable


def residual_blocks(layers: Sequence[Any], least: int = 1) -> list[Any]:
    """Return those of a network's layers that add their input, or a projection of it, to what they compute.

    They are told by the attribute `shortcut` (ours) or `downsample` (timm). NotApplicable with fewer than `least`.
    """
    blocks = [layer for layer in layers if hasattr(layer, "shortcut") or hasattr(layer, "downsample")]
    if len(blocks) < least:
        raise NotApplicable(f"needs a network of {least} residual blocks or more, this one has {len(blocks)}")
    return blocks


def seen(victim: Any, data: ImageSet, block: int) -> Tensor:
    """Return what enters the victim's head, for `block` 0, or the flattened output of its `block`-th residual block: (N, D)."""
    if not block:
        return victim.features(data)  # type: ignore[no-any-return]
    found: list[Tensor] = []

    def look(layer: Any, given: Any, out: Tensor) -> None:
        found.append(out.detach().float().flatten(1).cpu())

    handle = residual_blocks(victim.layers, block)[block - 1].register_forward_hook(look)
    try:
        victim.features(data)
    finally:
        handle.remove()
    return torch.cat(found)
