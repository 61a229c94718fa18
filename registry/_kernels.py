"""Neural tangent kernels in closed form, and what infinitely wide networks answer after some time of gradient descent.

All in float64, differentiable in both arguments. Formulas: Jacot et al. (2018), Arora et al. (2019), Williams (1997) for erf.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

WEIGHT = 1.76  # variance of weights, times fan in
BIAS = 0.18  # variance of biases


def dense_erf(x: Tensor, z: Tensor, depth: int = 5) -> Tensor:
    """Return the NTK (N, M) of `depth` times dense and erf between x (N, C, H, W) and z (M, C, H, W)."""
    x, z = x.flatten(1), z.flatten(1)
    size = x.shape[1]
    both, one, two = x @ z.T / size, x.square().sum(1) / size, z.square().sum(1) / size
    tangent = torch.zeros_like(both)
    for _ in range(depth):
        both, one, two = WEIGHT * both + BIAS, WEIGHT * one + BIAS, WEIGHT * two + BIAS
        tangent = both + WEIGHT * tangent
        first, second = 1 + 2 * one[:, None], 1 + 2 * two[None]
        slope = 4 / math.pi / (first * second - 4 * both.square()).sqrt()
        both = 2 / math.pi * torch.asin(2 * both / (first * second).sqrt())
        one = 2 / math.pi * torch.asin(2 * one / (1 + 2 * one))
        two = 2 / math.pi * torch.asin(2 * two / (1 + 2 * two))
        tangent = tangent * slope
    return tangent


def conv_relu(x: Tensor, z: Tensor, blocks: int = 2, stride: int = 2) -> Tensor:
    """Return the NTK (N, M) of `blocks` of a 5x5 convolution and ReLU, then flattening and three dense layers without any.

    As nothing pools before flattening, only covariances of equal places are needed.
    """
    channels, height, width = x.shape[1:]
    both = torch.einsum("ncp,mcp->nmp", x.flatten(2), z.flatten(2)).view(len(x), len(z), height, width) / channels
    one, two = x.square().mean(1), z.square().mean(1)  # (N, H, W), (M, H, W)
    tangent = torch.zeros_like(both)
    for _ in range(blocks):
        both, one, two = (WEIGHT * _window_mean(k, stride) + BIAS for k in (both, one, two))
        tangent = both + WEIGHT * _window_mean(tangent, stride)
        length = (one[:, None] * two[None]).sqrt()
        cosine = (both / length).clamp(-1 + 1e-12, 1 - 1e-12)
        angle = torch.acos(cosine)
        tangent = tangent * (math.pi - angle) / (2 * math.pi)
        both = length * ((1 - cosine.square()).sqrt() + (math.pi - angle) * cosine) / (2 * math.pi)
        one, two = one / 2, two / 2
    both, tangent = both.mean((2, 3)), tangent.mean((2, 3))
    for _ in range(3):
        both = WEIGHT * both + BIAS
        tangent = both + WEIGHT * tangent
    return tangent


def _window_mean(k: Tensor, stride: int) -> Tensor:
    """Sum over the 5x5 window of every place, over 25, zeros around; padded as "SAME" is, more at the end."""
    pads = []
    for side in (k.shape[-1], k.shape[-2]):
        whole = max((-(-side // stride) - 1) * stride + 5 - side, 0)
        pads += [whole // 2, whole - whole // 2]
    flat = F.pad(k.flatten(0, -3)[:, None], pads)  # (n, 1, H, W)
    pooled: Tensor = F.avg_pool2d(flat, 5, stride)[:, 0].unflatten(0, k.shape[:-2])
    return pooled


class _OfSpectrum(torch.autograd.Function):
    """g(A) for symmetric A, with g(a) = (1 - exp(-s a)) / a; its gradient stays finite where eigenvalues meet."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, s: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        values = values.clamp(min=1e-12)
        ctx.save_for_backward(values, vectors)
        ctx.s = s
        image: Tensor = vectors @ (-torch.expm1(-s * values) / values)[:, None].mul(vectors.T)
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors
        s = ctx.s
        image = -torch.expm1(-s * values) / values
        middle = (values[:, None] + values[None]) / 2
        gap = values[:, None] - values[None]
        slope = (s * torch.exp(-s * middle) + torch.expm1(-s * middle) / middle) / middle  # g' in between
        near = gap.abs() < 1e-6 * middle
        ratio = torch.where(near, slope, (image[:, None] - image[None]) / torch.where(near, torch.ones_like(gap), gap))
        return vectors @ (ratio * (vectors.T @ gradients[0] @ vectors)) @ vectors.T, None


def learnt(kernel: Tensor, y: Tensor, time: float) -> Tensor:
    """Return what to multiply Theta(x', x) with for the answers at x' after gradient descent for `time`, at rate 1, from zero.

    `kernel` is Theta(x, x), y one-hot (N, K); the loss is the mean square over images and classes. A ten-thousandth of the mean
    of the diagonal is added to it, as in the authors' code.
    """
    count, classes = y.shape
    matrix = kernel + 1e-4 * kernel.diagonal().mean() * torch.eye(count, dtype=kernel.dtype, device=kernel.device)
    inverse: Tensor = _OfSpectrum.apply(matrix, time / (count * classes))  # type: ignore[no-untyped-call]
    return inverse @ y
