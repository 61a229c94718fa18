"""Files of torch that authors publish: read with weights only, so that nothing in them is executed."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.poisons.arrays import Contents, check_archive, pick_arrays
from unlearnable_bench.registry import EntryError

DEEPCONFUSE_LAYER = ("dconv_down1.0.weight", "module.dconv_down1.0.weight")  # a tensor that only generators of DeepConfuse have


def read_torch(path: Path, limit: int) -> Contents:
    """Read a .pt or .pth file whose tensors have at most `limit` bytes. EntryError."""
    content = _load(path, limit)
    _check_tensors(content, path, limit)
    contents = _contents(content, path, limit)
    if contents is None:
        raise EntryError(
            f"{path} holds a {type(content).__name__}; expected a tensor, (images, labels), [noise, numbers of the images], "
            "a dictionary of tensors, or the generator of DeepConfuse"
        )
    return contents


def _load(path: Path, limit: int) -> Any:
    check_archive(path, limit)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # of the checkpoints of He et al.; holds plain values
            return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise EntryError(f"{path} holds more than tensors and is not opened: {_reason(error)[:200]}") from None


def _reason(error: Exception) -> str:
    reason = re.search(r"(Unsupported (?:global|class|operand)[^\n.]*|GLOBAL \S+)", str(error))
    if reason:
        return reason[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_tensors(content: Any, path: Path, limit: int) -> None:
    """EntryError for a tensor that a file claims without holding it: one number repeated by strides fills any shape."""
    for tensor in _tensors(content):
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise EntryError(f"{path} holds a sparse or quantized tensor; save it as a plain one")
        size = math.prod(tensor.shape) * tensor.element_size()
        if size > min(limit, tensor.untyped_storage().nbytes()):
            shape = tuple(tensor.shape)
            raise EntryError(f"{path} holds a tensor of {shape}, more than these images can need or than the file holds of it")


def _tensors(content: Any) -> list[Tensor]:
    """Return the tensors that stand where `_contents` looks for them."""
    return [value for value in _values(content) if isinstance(value, Tensor)]


def _values(content: Any) -> Sequence[Any]:
    """Return what stands at the top of a file, and in the model of a checkpoint."""
    match content:
        case {"model": Mapping() as model}:
            return [*content.values(), *model.values()]
        case Mapping():
            return list(content.values())
        case list() | tuple():
            return content
    return [content]


def _contents(content: Any, path: Path, limit: int) -> Contents | None:
    match content:
        case Mapping():
            return _from_mapping(content, path)
        case Tensor():
            return Contents(_array(content), "torch")
        case list() | tuple() if content:
            return _from_sequence(content, limit)
    return None


def _from_mapping(content: Mapping[Any, Any], path: Path) -> Contents:
    match content:
        case {"model": {"delta": Tensor() as delta}}:
            return Contents(_array(delta), "torch checkpoint")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors.keys().isdisjoint(DEEPCONFUSE_LAYER):
        return Contents(np.empty(0), "generator of DeepConfuse", weights=tensors)
    return pick_arrays(tensors, content, "torch", path, _array)


def _from_sequence(content: Sequence[Any], limit: int) -> Contents | None:
    parts = list(map(_numbers, content))
    if not all(isinstance(part, Tensor) for part in parts):
        return None
    match [part.ndim for part in parts]:
        case [4, 4, 0 | 1 | 2] if parts[0].shape == parts[1].shape:
            return Contents(_array(parts[1]), "torch", _array(parts[2]))  # clean images, poison, labels
        case [4, 0 | 1 | 2] if isinstance(content, list) and isinstance(content[1], list):
            return Contents(_array(parts[0]), "torch, by number", ids=_array(parts[1]))
        case [4, 0 | 1 | 2]:
            return Contents(_array(parts[0]), "torch", _array(parts[1]))
    return _from_images(parts, limit)


def _from_images(images: Sequence[Tensor], limit: int) -> Contents | None:
    """Put images of one shape into one array; None where they are not, or are more than may be."""
    if len({image.shape for image in images}) > 1 or sum(image.nbytes for image in images) > limit:
        return None
    return Contents(_array(torch.stack(list(images))), "torch")


def _numbers(value: Any) -> Any:
    """Return a list of whole numbers as a tensor, everything else as it is."""
    if isinstance(value, list) and value and all(map(_is_whole, value)):
        return torch.tensor(value)
    return value


def _is_whole(number: Any) -> bool:
    return type(number) is int and abs(number) < 2**62


def _array(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    if plain.dtype in (torch.bfloat16, torch.float16):
        plain = plain.float()
    return plain.numpy()
