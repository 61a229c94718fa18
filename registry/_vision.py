"""Makes torchvision, and timm which imports it, usable where its compiled half does not fit the installed torch."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path


@cache
def prepare() -> bool:
    """Say whether torchvision's compiled operators load; if not, declare those that its import asks for.

    A torch built for the CPU beside a torchvision built for CUDA (a frequent mix of package sources) fails at
    `import torchvision` with "operator torchvision::nms does not exist", although transforms, datasets and timm's networks
    need none of the compiled operators.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations or "torchvision" in sys.modules:
        return "torchvision" in sys.modules
    compiled = sorted(Path(spec.submodule_search_locations[0]).glob("_C*"))
    try:
        torch.ops.load_library(compiled[0])
    except (OSError, IndexError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP.append(library)
        return False
    return True


_KEEP: list[object] = []  # a library's definitions vanish with the object
