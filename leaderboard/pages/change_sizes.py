"""How far poisoned images lie from the clean ones, as the store has both: at 8 bits, PSNR, SSIM and the largest change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VALUES = 3 << 20  # of the images that are compared, at most: 1,024 images of CIFAR-10
WIDTH, SIGMA = 11, 1.5  # of the Gaussian window of SSIM, as its authors chose them
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class ChangeSize:
    """The size of a perturbation; None where nothing differs, or where an image is smaller than the window of SSIM."""

    psnr: float | None  # dB, of the mean square over all images
    ssim: float | None  # the mean over images, channels and windows
    largest: int  # change of a value, in levels of 255
    images: int  # that were compared, evenly spread over the set

    @classmethod
    def of(cls, images: NDArray[np.uint8], clean: NDArray[np.uint8]) -> ChangeSize:
        """Compare images (N, C, H, W) with the clean ones."""
        import numpy as np

        every = max(1, -(-images.size // VALUES))
        after, before = images[::every].astype(np.float64), clean[::every].astype(np.float64)
        square = float(np.mean((after - before) ** 2))
        psnr = float(10 * np.log10(255**2 / square)) if square else None
        ssim = similarity(after, before) if min(images.shape[2:]) >= WIDTH else None
        return cls(psnr, ssim, int(np.abs(after - before).max()), len(after))


def similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The structural similarity of images (N, C, H, W) of 0 to 255, over the windows that lie wholly inside."""
    import numpy as np

    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a, variance_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    return float(np.mean(alike / ((mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2))))


def _blurred(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each window, weighted by the Gaussian."""
    import numpy as np

    weights = np.exp(-((np.arange(WIDTH) - WIDTH // 2) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    rows, columns = images.shape[2] - WIDTH + 1, images.shape[3] - WIDTH + 1
    down: NDArray[Any] = sum(weight * images[:, :, place : place + rows] for place, weight in enumerate(weights))
    across: NDArray[Any] = sum(weight * down[..., place : place + columns] for place, weight in enumerate(weights))
    return across
