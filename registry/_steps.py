"""Steps that methods share: networks held still, signed gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def sign_of_gradient(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Return the sign of the gradient of the cross-entropy with respect to x, in {-1, 0, 1}; the model must be `still`."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = F.cross_entropy(model(x).float(), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient.sign_()


def into_box(z: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """Project z to within epsilon of x in every value, and to [0, 1]."""
    return torch.minimum(torch.maximum(z, x - epsilon), x + epsilon).clamp_(0, 1)
