"""Facility location: a few medoids that lie close to everything."""

from __future__ import annotations

import heapq

import numpy as np
import torch
from torch import Tensor


def medoids(points: Tensor, count: int) -> tuple[list[int], Tensor]:
    """Pick `count` of the points (n, D), greedily, so that the sum of each one's similarity to its closest medoid is
    largest; return them and, for each point, which of them (0..count) is its medoid.

    Similarity is exp(-distance / D), as the package submodlib has it, which the published code calls. Lazy: a gain computed
    before is a bound on the gain now.
    """
    distances = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist").float()
    similar = (-distances / points.shape[1]).exp().numpy()  # (n, n)
    covered = np.zeros(len(similar), dtype=np.float32)
    heap = [(-float(gain), number) for number, gain in enumerate(similar.sum(1, dtype=np.float64))]
    heapq.heapify(heap)
    picked: list[int] = []
    while len(picked) < count and heap:
        _, number = heapq.heappop(heap)
        gain = float(np.maximum(similar[number] - covered, 0).sum(dtype=np.float64))
        if heap and -gain > heap[0][0]:
            heapq.heappush(heap, (-gain, number))
            continue
        picked.append(number)
        covered = np.maximum(covered, similar[number])
    return picked, torch.from_numpy(similar[:, picked].argmax(1))
