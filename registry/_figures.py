"""What analyses, and a defense, compute."""

from __future__ import annotations

import copy
import math
import warnings
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry.contract import ImageSet

LBFGS_EPOCHS, LBFGS_BATCH, LBFGS_RATE = 15, 1024, 0.5  # of the published deep feature reweighting


def decibels(name: str, mse: float) -> dict[str, float]:
    """Return the peak signal-to-noise ratio of images in [0, 1] under a name; nothing where there is no noise at all."""
    return {name: -10 * math.log10(mse)} if mse > 0 else {}


def class_means(images: ImageSet) -> Tensor:
    """Return the mean image of every class, float64 (K, C, H, W), in [0, 1] units; zero for a class without images."""
    sums = torch.zeros(images.num_classes, *images.images.shape[1:], dtype=torch.float64)
    for where in images.blocks():
        sums.index_add_(0, images.labels[where], images.pixels(where).double())
    counts = torch.bincount(images.labels, minlength=images.num_classes).clamp(min=1)
    return sums / counts.view(-1, 1, 1, 1)


def reweighted(known: tuple[Tensor, Tensor], judged: tuple[Tensor, Tensor], inverse: float) -> tuple[float, float]:
    """Fit scikit-learn's logistic regression to standardised features; return accuracy and mean loss on others.

    Both are (features (n, D), labels (n,)); the mean and deviation of the first standardise both. `inverse` is C.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(known[0].numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations, as the library's default is
        model = LogisticRegression(C=inverse).fit(scaler.transform(known[0].numpy()), known[1].numpy())
    scores = torch.from_numpy(model.predict_log_proba(scaler.transform(judged[0].numpy()))).double()  # (n, classes seen)
    classes = torch.from_numpy(model.classes_)
    accuracy = float((classes[scores.argmax(1)] == judged[1]).double().mean())
    columns = torch.searchsorted(classes, judged[1]).clamp(max=len(classes) - 1)
    loss = -scores.gather(1, columns[:, None]).clamp(min=math.log(1e-15)).mean()
    return accuracy, float(loss)


def refitted(head: nn.Module, known: tuple[Tensor, Tensor], judged: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Train a copy of a head on features as they are, by L-BFGS; return accuracy and mean loss on others.

    Both are (features (n, D), labels (n,)). As the published code does: 15 epochs of batches of 1,024,
    20 iterations each, no penalty, the memory of earlier batches kept. Where that diverges, the last finite head is judged.
    """
    head = copy.deepcopy(head).cpu().float().requires_grad_(True)
    optimizer = torch.optim.LBFGS(head.parameters(), lr=LBFGS_RATE)
    generator = torch.Generator().manual_seed(0)
    features, labels = known
    order = [torch.randperm(len(labels), generator=generator).split(LBFGS_BATCH) for _ in range(LBFGS_EPOCHS)]
    for rows in chain.from_iterable(order):
        before = copy.deepcopy(head.state_dict())
        optimizer.step(partial(_descended, optimizer, head, features[rows], labels[rows]))
        if not all(bool(value.isfinite().all()) for value in head.parameters()):
            head.load_state_dict(before)
            break
    with torch.no_grad():
        scores = head(judged[0])
    return float((scores.argmax(1) == judged[1]).double().mean()), float(F.cross_entropy(scores.double(), judged[1]))


def _descended(optimizer: torch.optim.Optimizer, head: nn.Module, x: Tensor, y: Tensor) -> float:
    """Put the gradient of a batch into a head; return the loss."""
    optimizer.zero_grad()
    loss = F.cross_entropy(head(x), y)
    loss.backward()
    return float(loss.detach())
