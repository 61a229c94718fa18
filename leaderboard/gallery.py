"""Pictures of the poisons of a store, read with numpy by the layout of its folders: images.npy and manifest.json.

Clean images come from the decoded data set of this machine. Where they are not there, or are others than those of the poison,
the poisoned images are shown alone.
"""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.language import DASH
from registry import EntryError, MissingDataError, resolve
from registry import data as datasets
from registry.item import write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = 10  # images in a strip, one per class
SETS = 6  # poisons that are shown of one attack
GAP = 1  # pixels between images
log = logging.getLogger(__name__)

BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EntryError, MissingDataError)


def samples(store: Path) -> dict[str, list[dict[str, Any]]]:
    """Return pictures by the name of an attack, one set per item and data set. What is damaged is left out."""
    chosen: dict[tuple[str, str], tuple[int, str, Path, dict[str, Any]]] = {}
    for path in sorted(store.glob("*/manifest.json")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            recipe = manifest["recipe"]
            if recipe["stage"] == "craft":
                where = (str(manifest["text"]), recipe["dataset"]["name"] + json.dumps(recipe["dataset"]["fields"]))
                found = (int(recipe["seed"]), path.parent.name, path.parent, manifest)
                chosen[where] = min(chosen.get(where, found), found)
        except BROKEN:
            continue
    result: dict[str, list[dict[str, Any]]] = {}
    for (text, _), (seed, _, folder, manifest) in chosen.items():
        try:
            strips, name = _strips(folder, manifest), manifest["recipe"]["attack"][-1]["name"]
            budget = manifest["budget"]
            spent = f"{budget['norm']}: {budget['spent']:.4g} spent of {_amount(budget['allowed'])}"
            dataset = manifest["recipe"]["dataset"]["name"]
            note = f"{dataset}, seed {seed}; {spent}; sha256 {manifest['checksum'][:12]}"
        except BROKEN as error:
            log.warning("no pictures of %s: %s", folder.name, error)
            continue
        several = result.setdefault(str(name), [])
        if len(several) < SETS:
            several.append({"text": text, "note": note, "strips": strips})
    return result


def _amount(allowed: float | None) -> str:
    return DASH if allowed is None else f"{allowed:.4g}"


def _strips(folder: Path, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    import numpy as np

    images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / "labels.npy", mmap_mode="r", allow_pickle=False)
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
        raise ValueError("no images")
    rows = [int(np.argmax(labels == label)) for label in np.unique(labels)[:CLASSES]]
    poisoned = np.array(images[rows])  # (K, C, H, W)
    clean = _clean(manifest, images.shape)
    if clean is None:
        return [_strip(poisoned, "poisoned", f"One poisoned image of each of {len(rows)} classes")]
    before = np.array(clean[rows])
    delta = poisoned.astype(np.float32) - before
    strongest = float(np.abs(delta).max()) or 1.0
    grown = np.clip(128 + delta * (127 / strongest), 0, 255).astype(np.uint8)
    spectrum = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(delta / 255), axes=(2, 3)))).mean(1, keepdims=True)  # (K, 1, H, W)
    spectrum = (255 * spectrum / (spectrum.max() or 1.0)).astype(np.uint8)
    return [
        _strip(before, "clean", f"One clean image of each of {len(rows)} classes"),
        _strip(poisoned, "poisoned", "The same images poisoned"),
        _strip(grown, f"perturbation, amplified {127 / strongest:.3g} times around grey", "What was added to each, amplified"),
        _strip(
            spectrum, "its spectrum: magnitude on a log scale, low frequencies in the middle", "The spectrum of what was added"
        ),
    ]


def _clean(manifest: Mapping[str, Any], shape: Sequence[int]) -> NDArray[np.uint8] | None:
    """The clean training images, if they are decoded on this machine and those that the poison was made of."""
    import numpy as np

    recipe = manifest["recipe"]["dataset"]
    if recipe["name"].startswith("folder-") or recipe["fields"].get("per_class"):
        return None
    (part,) = resolve("datasets", write(recipe["name"], {k: v for k, v in recipe["fields"].items() if v}))
    if datasets.decoded_fingerprint(part) != manifest["dataset_fingerprint"]:
        return None
    images: NDArray[np.uint8] = np.load(datasets.decoded(part) / "train_images.npy", mmap_mode="r", allow_pickle=False)
    return images if tuple(images.shape) == tuple(shape) else None


def _strip(images: NDArray[np.uint8], title: str, alt: str) -> dict[str, Any]:
    """Images side by side as one PNG inside the page."""
    import numpy as np
    from PIL import Image

    count, channels, height, width = images.shape
    canvas = np.zeros((height, count * (width + GAP) - GAP, 3), np.uint8)
    for number, image in enumerate(images):
        start = number * (width + GAP)
        canvas[:, start : start + width] = np.moveaxis(image if channels == 3 else image[:1].repeat(3, 0), 0, 2)
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG", optimize=True)
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"data": address, "title": title, "alt": alt, "width": canvas.shape[1], "height": canvas.shape[0]}
