"""Class mean: subtract the mean image of its class from every training image, which a class-wise pattern is a part of."""

from dataclasses import dataclass, replace

import torch

from unlearnable_bench.registry import DEFENSES, Defense, ImageSet, Job
from unlearnable_bench.registry._figures import class_means
from unlearnable_bench.registry._papers import LEARN_FROM_UNLEARNABLE


@DEFENSES.register("class-mean")
@dataclass(frozen=True)
class ClassMean(Defense):
    """Subtract the mean image of its class from every training image.

    The paper compares this trivial defense with orthogonal projection (appendix A.4.4). A pattern shared by a class goes, and
    with it whatever the class has in common. Test images have no known class and stay as they are, so that a victim sees others
    than it learned from: the paper says that it does not help. The result stays float32, around 0 instead of in [0, 1]: nothing
    is added back, as the paper says no such thing. Means are of the training images by the labels that they come with, before
    augmentation.
    """

    display_name = "Projection away from class means"
    label = "Class means"
    paper = LEARN_FROM_UNLEARNABLE

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        means = class_means(train).float()  # (K, C, H, W)
        result = job.empty(train.images.shape, torch.float32)
        for where in train.blocks():
            result[where] = train.pixels(where).sub_(means[train.labels[where]])
        return replace(train, images=result)
