"""Steps that methods share: networks held still, signed gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Hold a network still while its input is changed: evaluation mode, no gradients for its parameters.

    All code bases of the field compute input gradients with the running statistics of batch normalisation; and without
    parameter gradients a step costs two passes instead of three.
    """
    training = model.training
    wanted = [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        model.train(training)


@contextmanager
def unmoved(model: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation alone: passes in training mode that no step follows."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Switch autocast off where `x` lies. Positions and colors need all digits of fp32, whatever the network computes in."""
    return torch.autocast(x.device.type, enabled=False)


def sign_of_gradient(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Return the sign of the gradient of the cross-entropy with respect to x, in {-1, 0, 1}; the model must be `still`."""
    return slope(model, x, y).sign_()


def direction_of_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy with respect to x, of length 1 per image; the model must be `still`."""
    gradient = slope(model, x, y)
    length: Tensor = gradient.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
    return gradient / (length + 1e-10)


def slope(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to x; the model must be `still`."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = F.cross_entropy(model(x).float(), y, reduction="sum")
        gradient: Tensor = torch.autograd.grad(loss, x)[0]
    return gradient


def into_box(z: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """Project z to within epsilon of x in every value, and to [0, 1]."""
    return torch.minimum(torch.maximum(z, x - epsilon), x + epsilon).clamp_(0, 1)


def into_ball(z: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """Project z to within a Euclidean distance of epsilon of x, image by image, and to [0, 1]."""
    difference: Tensor = (z - x).flatten(1).renorm(2, 0, epsilon)
    return (x + difference.view_as(x)).clamp_(0, 1)
