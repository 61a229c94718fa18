"""What an entry is: the classes that attacks, defenses, protocols and analyses derive from, and the data they are handed.

Architectures and datasets are functions; their signatures are `Architecture` and `Dataset` at the end of this file.
Everybody works in pixel units, images scaled to [0, 1]; the training loop alone wraps the network with a mean and a
standard deviation. Entries never seed, pick a device or print: the `Job` has a device and a seeded generator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from unlearnable_bench.registry._paths import empty_array
from unlearnable_bench.registry._spent import Spent
from unlearnable_bench.registry.training import TrainedVictim, TrainingRun

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

SLACK = 1e-6  # pixel units, of the last digits of float32; far below one level
CHUNK = 4096  # images of 3x32x32 looked at together when a whole set is read, fewer of larger ones; bounds memory
LEFT_OUT = "left_out"  # the array beside a poison that says which images no victim trains on
BLOCK = 1 << 19  # values worked on together where it is a matter of speed: what a processor's cache holds


def blocks(images: int, values: int) -> Iterator[slice]:
    """Yield slices that cover so many images, of so many values each, a cache full at a time."""
    step = max(1, BLOCK // max(1, values))
    for start in range(0, images, step):
        yield slice(start, min(start + step, images))


class EntryError(ValueError):
    """An entry, or a parameter of one, that cannot be used as asked; the text says what to do."""

    exit_code = 2  # of `bench`: wrong use or input


class MissingDataError(EntryError):
    """A dataset that is not on this machine, or not whole; the text says how to get it."""


class NotApplicable(Exception):  # noqa: N818  (a finding that tables print, not a fault)
    """Raised by an entry that cannot run on a dataset; the table prints the reason."""


@dataclass(frozen=True)
class Paper:
    """Where a method was published; printed beside its numbers."""

    title: str
    venue: str
    url: str
    authors: str = ""
    year: int = 0
    bibtex: str = ""


@dataclass(frozen=True)
class DataInfo:
    """What is known of a dataset without its images: `shape` is (C, H, W), `size` the number of training images."""

    shape: tuple[int, int, int]
    num_classes: int
    size: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageSet:
    """`images` (N, C, H, W), `labels` int64 (N,).

    Images are uint8; or float32 in [0, 1] units, possibly outside the box, where a purifier must not round. They may be
    a read-only memory map larger than the memory: never convert a whole set to float.
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def info(self) -> DataInfo:
        channels, height, width = self.images.shape[1:]
        return DataInfo((channels, height, width), self.num_classes, len(self.labels), self.classes)

    def rows(self, rows: Tensor) -> ImageSet:
        """Return the part of the set at these rows, in their order."""
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def batches(self, size: int = 0) -> Iterator[slice]:
        """Yield slices that cover the set in order, `size` images at a time; 0: 4096, or fewer if they are large."""
        size = size or max(1, min(CHUNK, CHUNK * 3072 // max(1, math.prod(self.images.shape[1:]))))
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def blocks(self) -> Iterator[slice]:
        """Yield slices that cover the set in order, a cache full at a time: the pace at which noise is best made."""
        return blocks(len(self), self.images[:1].numel())

    def pixels(self, where: Any, device: torch.device | str = "cpu") -> Tensor:
        """Return the images at `where` (slice or indices) as float32 in [0, 1] units on `device`."""
        chosen = self.images[where].to(device)
        return chosen.float().div_(255) if chosen.dtype.itemsize == 1 else chosen.float()

    def levels(self, where: Any) -> Tensor:
        """Return the images at `where` as uint8: what a purifier that works on 8-bit files sees of them."""
        chosen = self.images[where]
        return chosen if chosen.dtype.itemsize == 1 else chosen.mul(255).round_().clamp_(0, 255).byte()


@dataclass(frozen=True)
class Budget:
    """Norm and radius that an attack promises to keep for every image, in pixel units.

    linf: largest absolute difference. l2: Euclidean norm over all values of an image. l0: number of changed pixel
    positions. none: no promise; the linf difference is measured all the same.
    """

    norm: str
    epsilon: float = math.inf

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2", "l0", "none"):
            raise EntryError(f"unknown norm {self.norm!r} of a budget; norms are linf, l2, l0, none")
        if self.norm != "none" and not 0 <= self.epsilon < math.inf:
            raise EntryError(f"epsilon={self.epsilon} is not a radius of {self.norm}; expected 0 or more")

    def allowed(self, shape: tuple[int, ...]) -> float | None:
        """Return the largest `measure` that passes for images of `shape` (C, H, W), the rounding to 8 bits allowed for."""
        if self.norm == "none":
            return None
        if self.norm == "linf":
            return math.floor(255 * self.epsilon + 0.5 + 255 * SLACK) / 255  # half a level may round away from zero
        if self.norm == "l2":  # rounding moves every value by up to half a level
            return self.epsilon + 0.5 / 255 * math.sqrt(math.prod(shape))
        return self.epsilon

    def measure(self, clean: Tensor, poisoned: Tensor) -> float:
        """Return the largest spending of any image; both arguments uint8 (N, C, H, W). Units as in the class's text."""
        largest = 0.0
        for part in blocks(len(clean), clean[:1].numel()):
            if self.norm == "l2":
                levels = (
                    poisoned[part].int() - clean[part].int()
                )  # (n, C, H, W), 8-bit levels; their squares are summed exactly
                spent = math.sqrt(int(levels.mul_(levels).flatten(1).sum(1).max())) / 255
            elif self.norm == "l0":
                spent = float((poisoned[part] != clean[part]).any(1).flatten(1).sum(1).max())
            else:
                low, high = (poisoned[part].short() - clean[part].short()).aminmax()
                spent = max(-int(low), int(high)) / 255
            largest = max(largest, spent)
        return largest

    def holds(self, clean: Tensor, poisoned: Tensor) -> bool:
        """Say whether `poisoned` (uint8, as published) keeps the promise."""
        allowed = self.allowed(tuple(clean.shape[1:]))
        return allowed is None or self.measure(clean, poisoned) <= allowed + SLACK


@dataclass(frozen=True)
class Parent:
    """A finished poison that another is made from, the clean images under it, and what it promises."""

    clean: ImageSet
    images: Tensor  # uint8 (N, C, H, W), as published
    budget: Budget = Budget("none")

    def delta(self, rows: Tensor) -> Tensor:
        """Return the perturbations at `rows`, float32, pixel units: what is left of the noise after clipping and rounding."""
        levels = self.images.index_select(0, rows).short() - self.clean.images.index_select(0, rows).short()
        return levels.float().div_(255)


class Job:
    """What an entry is handed beside the data. `Job()` works in tests.

    `parents` are the poisons that an attack with parents, or a tool in a chain, is made from. `device` and `generator` (a
    seeded CPU generator: draw on the CPU, then move, and every device sees the same draws). torch's global generator is
    seeded too before an entry runs, so that layers initialise the same way each time.
    """

    def __init__(
        self,
        device: str = "cpu",
        seed: int = 0,
        on_progress: Callable[[int, int], None] | None = None,
        folder: Path | None = None,
        parents: tuple[Parent, ...] = (),
        numerics: str = "",
        unpoisoned: ImageSet | None = None,
    ) -> None:
        """`numerics` names the precision and threads that an entry computes with; only the same go on from a checkpoint.

        `unpoisoned` is what `clean` chooses from: the training set before it was poisoned.
        """
        self.parents = parents
        self.unpoisoned = unpoisoned
        self._computed = numerics or device.partition(":")[0]
        self._device, self._seed, self._on_progress, self._folder = device, seed, on_progress, folder
        self.notes: dict[str, float] = {}
        self.kept: dict[str, np.ndarray] = {}
        self.part = 0  # of a chain of purifiers the one at work: each goes on from a checkpoint of its own
        self.before, self.whole = 0, 0  # of a set that is purified in pieces: images before this piece, and in all
        self._began, self._before = Spent.now(), Spent()

    @property
    def spent(self) -> Spent:
        """What was spent on this result so far, by a process whose checkpoint was taken up, too."""
        return self._before + (Spent.now() - self._began)

    @cached_property
    def device(self) -> torch.device:
        import torch

        return torch.device(self._device)

    @cached_property
    def generator(self) -> torch.Generator:
        import torch

        return torch.Generator().manual_seed(self._seed)

    def clean(self, count: int) -> ImageSet:
        """Return some seeded images of the training set as they were before they were poisoned, for a purifier.

        EntryError unless the defense says that it needs clean data, and where the set has fewer images.
        """
        unpoisoned, rows = self._seen_clean(count)
        return unpoisoned.rows(rows)

    def pairs(self, train: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
        """Return some seeded images as `clean` does, and what the set that is purified holds in their places."""
        unpoisoned, rows = self._seen_clean(count)
        return unpoisoned.rows(rows), train.rows(rows)

    def _seen_clean(self, count: int) -> tuple[ImageSet, Tensor]:
        import torch

        if self.unpoisoned is None:
            raise EntryError('a purifier asks for clean images; one that does declares needs = ("clean-data",)')
        if not 0 <= count <= len(self.unpoisoned):
            raise EntryError(f"a purifier asks for {count} clean images, there are {len(self.unpoisoned)}")
        return self.unpoisoned, torch.randperm(len(self.unpoisoned), generator=self.generator)[:count]

    def progress(self, done: int, total: int) -> None:
        """Report that `done` of `total` steps are over."""
        if self._on_progress is not None:
            self._on_progress(self.before + done, self.whole or total)

    def save(self, state: dict[str, Any]) -> None:
        """Keep tensors and numbers from which `load` continues if the process dies."""
        import torch

        if self._checkpoint is not None:
            scratch = self._checkpoint.with_suffix(".tmp")
            torch.save({"state": state, "computed": self._computed} | asdict(self.spent), scratch)
            scratch.replace(self._checkpoint)

    @property
    def _checkpoint(self) -> Path | None:
        return self._folder / f"checkpoint{self.part or ''}-{self._computed}.pt" if self._folder is not None else None

    def load(self) -> dict[str, Any] | None:
        """Return what `save` kept last, on the CPU; None if there is nothing, or nothing that can be taken up.

        Random numbers and digits of another kind of device, or of other numerics, would go on to a result of neither.
        """
        import torch

        path = self._checkpoint
        if path is None or not path.exists():
            return None
        try:
            found: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            state, before = dict(found["state"]), Spent(float(found["seconds"]), float(found["cpu_seconds"]))
            computed = found["computed"]
        except Exception:  # damaged, or of an older program: that costs time, nothing else
            return None
        if computed != self._computed:
            return None
        self._began, self._before = Spent.now(), before
        return state

    def empty(self, shape: Sequence[int], kind: torch.dtype) -> Tensor:
        """Return a uint8 or float32 tensor on the CPU to fill with a result, mapped to a file if it is large. OSError."""
        import numpy as np
        import torch

        if self._folder is None:
            return torch.empty(tuple(shape), dtype=kind)
        known = np.dtype(np.uint8 if kind == torch.uint8 else np.float32)
        return torch.from_numpy(empty_array(self._folder, tuple(shape), known))

    def note(self, **figures: float) -> None:
        """Put figures such as `passes` (forward passes per image) into the manifest."""
        self.notes.update(figures)

    def keep(self, name: str, array: np.ndarray) -> None:
        """Keep a side product beside the manifest as `name`.npy."""
        if not name.isidentifier() or name in ("images", "labels", LEFT_OUT):
            raise ValueError(f"an array cannot be kept under the name {name!r}; expected a word that is not taken")
        self.kept[name] = array

    def leave_out(self, images: np.ndarray) -> None:
        """Keep some images, bool (N,), from victims: those that an attack judged its noise by. It returns no noise for them."""
        self.kept[LEFT_OUT] = images
        self.note(left_out=int(images.sum()))


@dataclass(frozen=True)
class Attack(ABC):
    """A recipe that turns a clean training set into a poison.

    Its fields are its hyperparameters; the field `epsilon`, where there is one, is the radius in the norm of `budget`.
    """

    display_name: ClassVar[str] = ""  # as pages write it: `Adversarial training`; its name where it has none
    label: ClassVar[str] = ""  # short, with fields in braces: `AT {epsilon}`; the display name where it has none
    paper: ClassVar[Paper]
    version: ClassVar[int] = 1  # raise it when the poison changes: it is in the poison's key
    later: ClassVar[Mapping[str, Any]] = {}  # fields added after records were published -> their neutral value, for ever
    revisions: ClassVar[Mapping[str, int]] = {}  # corrections of some settings alone: `variant=rem` -> 2, then 3
    small: ClassVar[Mapping[str, Any]] = {}  # fields with which it runs in 5 s on 64 images of 4 classes
    budget_norm: ClassVar[str] = "linf"  # the norm of its budget, where it has no field `norm`
    identity: ClassVar[bool] = False  # True: leaves every image as it is, so nothing needs to be stored
    parents: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # fields that hold specs of attacks -> own fields handed to them
    chained: ClassVar[bool] = False  # True: a tool, acts on the poison at its left in a chain `a+b`
    onto: ClassVar[bool] = False  # True: a tool that takes a poison of the dataset `dataset=` to the cell's
    seedless: ClassVar[bool] = False  # True: no seed enters its poison, all cells share one

    @property
    @abstractmethod
    def budget(self) -> Budget:
        """The promise that the store checks after rounding to 8 bits."""

    def promise(self, parents: Sequence[Budget]) -> Budget:
        """Return the budget of a poison made from poisons of other budgets: a tool hands on what it keeps of theirs."""
        return self.budget

    @abstractmethod
    def craft(self, clean: ImageSet, job: Job) -> Tensor | Iterator[tuple[slice, Tensor]]:
        """Return delta, float32 (N, C, H, W), pixel units; or yield (slice, delta of these images) for large sets.

        What is uint8 is no delta but the poisoned images themselves.
        """

    def applies(self, info: DataInfo) -> None:  # noqa: B027  (a default, not a gap)
        """Raise `NotApplicable("why")` where the method cannot run; asked while planning."""


class Hooks:
    """What a defense does during training, beside its augmentation and loss; kept in checkpoints."""

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Change a batch; `index` (B,) says which training images it holds, on the CPU."""
        return x, y

    def after_epoch(self, epoch: int) -> None:
        """Act when an epoch is over; the first is 1."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and numbers from which `load_state_dict` goes on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""


@dataclass(frozen=True)
class Defense:
    """What is done about a poison. An entry overrides the one or two hooks that it needs.

    In a chain `a+b`, purifiers run left to right once before training; per batch come the protocol's augmentation,
    `augment` left to right, normalisation and `loss`. Two parts that override the same one of
    `loss`, `model` and `start` clash.
    """

    version: ClassVar[int] = 1
    later: ClassVar[Mapping[str, Any]] = {}  # fields added after records were published -> their neutral value, for ever
    revisions: ClassVar[Mapping[str, int]] = {}  # corrections of some settings alone: `variant=rem` -> 2, then 3
    small: ClassVar[Mapping[str, Any]] = {}
    display_name: ClassVar[str] = ""  # as pages write it: `Adversarial training`; its name where it has none
    label: ClassVar[str] = ""  # short, with fields in braces: `AT {epsilon}`; the display name where it has none
    paper: ClassVar[Paper | None] = None
    needs: ClassVar[tuple[str, ...]] = ()  # of clean-data, pairs, weights, attack: shown beside its numbers
    brings: ClassVar[Mapping[str, str]] = {}  # a need -> the field that brings it along, unless it stands at its default
    members: ClassVar[tuple[str, ...]] = ()  # specs that are run in its place; reports show the best, an oracle's choice
    per_image: ClassVar[bool] = False  # True: `purify` treats images one by one and may be given any part of a set
    soft: ClassVar[bool] = False  # True: `augment` mixes labels and is given them as rows of probabilities, (B, K)

    @property
    def cost(self) -> float:
        """Return how many times the work of plain training a training with it takes, purifying apart."""
        return 1.0

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        """Return the training set to learn from; labels, order and size stay. Never sees the test set.

        A set may be larger than memory: one that is not `per_image` goes through it by `train.batches()` and fills what
        `job.empty` gives.
        """
        return train

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Change a batch: x float32 (B, C, H, W) in [0, 1] units, y int64 (B,) or float (B, K)."""
        return x, y

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Return the loss of a batch, a scalar. `progress` is the part of training that is over, 0..1."""
        from torch.nn import functional as F

        return F.cross_entropy(model(x), y)

    def configure(self, protocol: Protocol) -> Protocol:
        """Return the recipe to train by, where the defense brings its own length or optimiser."""
        return protocol

    def model(self, net: nn.Module) -> nn.Module:
        """Return the network to train, where the defense changes it."""
        return net

    def start(self, run: TrainingRun) -> Hooks:
        """Return what acts during training; `registry/training.py` says what `run` offers."""
        return Hooks()

    def applies(self, info: DataInfo) -> None:
        """Raise `NotApplicable("why")` where the method cannot run; asked while planning."""


@dataclass(frozen=True)
class Protocol:
    """A named, versioned recipe for training and judging a victim: data only, `benchmark/train.py` has the loop.

    Results of different protocols are never ranked together. `name@0.1` is the same recipe with a tenth of the epochs,
    and another protocol.
    """

    epochs: int = 60  # passes over the training set
    steps: int = 0  # training steps instead of epochs, where above 0
    batch: int = 128  # images
    drop_last: bool = False  # leave out an incomplete last batch
    shuffle: bool = True  # a new order every epoch; else one random order for all epochs
    optimizer: str = "sgd"  # sgd, adam or adamw
    lr: float = 0.1  # peak learning rate
    momentum: float = 0.9  # of sgd
    nesterov: bool = False  # of sgd
    weight_decay: float = 5e-4  # of all weights, as the optimizer has it
    schedule: str = "cosine"  # cosine, cosine-epoch, linear, onecycle, milestones or constant; per step but for cosine-epoch
    milestones: tuple[float, ...] = ()  # parts of training, 0..1, at which the learning rate is multiplied by gamma
    gamma: float = 0.1  # factor on the learning rate at a milestone
    warmup: float = 0.0  # part of training over which the learning rate climbs to its peak, 0..1
    floor: float = 0.0  # part of the peak learning rate at which a cosine or a line ends, 0..1
    clip: float = 0.0  # largest gradient norm; 0: no clipping
    augmentation: tuple[str, ...] = ()  # names of benchmark/augment.py, in order
    input_size: int = 0  # side of the images that the network sees, pixels; 0: as the data are
    mean: tuple[float, ...] = ()  # per channel, pixel units; empty: the network sees [0, 1]
    std: tuple[float, ...] = ()  # per channel, pixel units
    precision: str = "auto"  # auto (bf16 where the device multiplies it faster), fp32 or bf16
    threads: int = 0  # CPU threads of one training, they change the result; 0: all cores of the machine
    label_smoothing: float = 0.0  # part of every label that is spread over all classes, 0..1
    decay_all: bool = True  # false: no weight decay of biases and normalizations
    bias_lr: float = 1.0  # factor on the learning rate of biases and normalizations
    judge_every: int = 1  # epochs; the last one is always judged, and every one where a defense acts after epochs
    frozen: int = 0  # layers of the network, from its input on, that are not trained, statistics included; -1: all but the head

    version: ClassVar[int] = 1
    # fields added after records were published -> their neutral value, for ever
    later: ClassVar[Mapping[str, Any]] = {
        "label_smoothing": 0.0,
        "decay_all": True,
        "bias_lr": 1.0,
        "judge_every": 1,
        "frozen": 0,
    }
    revisions: ClassVar[Mapping[str, int]] = {"shuffle=false": 2}  # corrections of some settings alone
    display_name: ClassVar[str] = ""  # as pages write it: `Adversarial training`; its name where it has none
    label: ClassVar[str] = ""  # short, with fields in braces: `AT {epsilon}`; the display name where it has none
    paper: ClassVar[Paper | None] = None
    adversarial: ClassVar[Mapping[str, Any]] = {}  # fields that differ under adversarial training
    per_dataset: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # fields that differ on a dataset, by its name
    per_architecture: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # fields that differ for a network, by its name
    scale: float = field(default=1.0, metadata={"hidden": True})  # factor on the epochs, written name@factor

    def varied(self, changes: Mapping[str, Any]) -> Protocol:
        """Return the recipe with `changes` to fields that stand at their defaults: what a user wrote in a spec wins."""
        plain = type(self)()
        return replace(self, **{key: value for key, value in changes.items() if getattr(self, key) == getattr(plain, key)})

    def length(self, images: int) -> tuple[int, int]:
        """Return (steps in all, steps per epoch) for a set of so many images, after scaling; at least one epoch."""
        whole, rest = divmod(images, self.batch)
        per_epoch = whole if whole and (self.drop_last or not rest) else whole + 1
        if self.steps:
            return max(1, round(self.steps * self.scale)), per_epoch
        return max(1, round(self.epochs * self.scale)) * per_epoch, per_epoch


@dataclass(frozen=True)
class Contrastive(Protocol):
    """A protocol that trains without labels: an encoder learns which two views show the same image, then a linear probe is
    trained on its features and judged on the clean test set.

    The network is the encoder, its head is not used. Of a defense only `purify` acts, all others are not applicable.
    """

    epochs: int = 1000
    batch: int = 512
    drop_last: bool = True
    area: float = 0.08  # smallest part of an image's area that a view shows, 0..1
    probe_data: Literal["poison", "clean"] = "poison"  # what the probe is trained on: as the encoder, or the clean images
    probe_epochs: int = 100  # of the linear classifier on the features
    probe_batch: int = 512  # images
    probe_optimizer: str = "adam"  # sgd, adam or adamw
    probe_lr: float = 1e-3  # peak learning rate of the probe
    probe_schedule: str = "constant"  # as `schedule`

    @abstractmethod
    def objective(self, encoder: nn.Module) -> nn.Module:
        """Return what is trained: a module with the attribute `encoder`, from two views, float32 (B, C, H, W), to a loss."""


WORDS = {
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("cosine", "cosine-epoch", "linear", "onecycle", "milestones", "constant"),
    "precision": ("auto", "fp32", "bf16"),
}
FRACTIONS = ("momentum", "warmup", "floor", "label_smoothing", "area")
COUNTS = ("epochs", "batch", "judge_every")  # none of which may be 0
RECIPE = tuple(field.name for field in fields(Contrastive))  # what a recipe of another package has beside these is its own


def check_recipe(owner: str, recipe: Mapping[str, Any]) -> None:
    """Raise EntryError where a field of a protocol has a value that no training can have."""
    for name in RECIPE:
        value = recipe.get(name)
        words = WORDS.get(name.removeprefix("probe_"))
        if words and value is not None and value not in words:
            raise EntryError(f"{owner}: {name}={value} is none of {', '.join(words)}")
        if not isinstance(value, int | float):
            continue
        least = 1 if name.removeprefix("probe_") in COUNTS else -1 if name == "frozen" else 0
        most = 1 if name in FRACTIONS else math.inf
        if not least <= value <= most:
            expected = f"{least} or more" if most == math.inf else "a fraction, 0 to 1"
            raise EntryError(f"{owner}: {name}={value:g} cannot be; expected {expected}")


@dataclass
class Context:
    """What an analysis is handed. What it does not name in `needs` is not made: `poison` is then the clean set, `purified`
    the poison. The three sets have the same images in the same order, those that the victim trains on.
    """

    job: Job  # device and generator, seeded by the cell
    clean: ImageSet  # the training images before the attack
    test: ImageSet  # the clean test set
    poison: ImageSet  # as published, mixed at the cell's ratio
    purified: ImageSet  # what the victim trains on
    chosen: Tensor  # bool (N,): which images are poisoned
    attack: Sequence[Attack] = ()  # the parts of the cell's chain
    defenses: Sequence[Defense] = ()
    source: ImageSet | None = None  # the poison at the left of the last tool of a chain
    craft_log: Mapping[str, float] = field(default_factory=dict)  # `seconds` of crafting, and what the attack noted
    purify_log: Mapping[str, float] = field(default_factory=dict)  # `seconds` of purifying, and what the defense noted
    purify_kept: Callable[[str], Any] = lambda name: None  # a side product of purifying by its name: array, or None
    victim: TrainedVictim | None = None  # None where none is trained
    # trains a victim like the cell's on this set as it is; its accuracy and mean loss on the test set
    train: Callable[[ImageSet], tuple[float, float]] | None = None
    seconds: float = 0.0  # that the victim's training took
    curves: dict[str, list[float]] = field(default_factory=dict)  # what `after_epoch` collects; kept in the record


NEEDS = ("clean", "poison", "purified", "network", "epochs", "craft-log", "purify-log")
"""What analyses may need; `network` is the victim with its random weights, `epochs` its training."""


@dataclass(frozen=True)
class Analysis(ABC):
    """What is measured of a cell beside, or instead of, the accuracy of its victim: named figures, kept in its record.

    Without `network` and `epochs` in `needs` no victim is made, and cells of different architectures are one.
    """

    needs: ClassVar[tuple[str, ...]] = ()  # of NEEDS: the stages that are run for it
    version: ClassVar[int] = 1  # raise it when figures change
    later: ClassVar[Mapping[str, Any]] = {}  # fields added after records were published -> their neutral value, for ever
    revisions: ClassVar[Mapping[str, int]] = {}  # corrections of some settings alone: `variant=rem` -> 2, then 3
    small: ClassVar[Mapping[str, Any]] = {}
    display_name: ClassVar[str] = ""  # as pages write it: `Adversarial training`; its name where it has none
    label: ClassVar[str] = ""  # short, with fields in braces: `AT {epsilon}`; the display name where it has none
    paper: ClassVar[Paper | None] = None

    @abstractmethod
    def measure(self, context: Context) -> dict[str, float]:
        """Return figures by name. Shares and accuracies are fractions; a table names the figure that it prints."""

    def after_epoch(self, context: Context) -> None:  # noqa: B027  (a default, not a gap)
        """Look at the victim after an epoch of its training, append to `context.curves`; must not draw random numbers."""

    def applies(self, info: DataInfo) -> None:  # noqa: B027
        """Raise `NotApplicable("why")` where it cannot be measured; asked while planning."""


Architecture: TypeAlias = "Callable[..., nn.Module]"
"""`f(num_classes, in_channels=3, image_size=32)`: a network from float32 (B, C, H, W) to logits (B, num_classes), with
`features(x) -> (B, D)`, `head` (the last linear layer) and `layers()` (its parts in order from input to output).

A network whose weights begin with a look at the images has `start(images)`: it is called before the first step, for victims
and surrogates alike, with a sample of the set that it will train on, float32 (n, C, H, W), normalised as it will see them."""

Dataset: TypeAlias = "Callable[..., tuple[ImageSet, ImageSet]]"
"""`f(root, **fields)` returns (train, test), uint8, read from the folder `root` of this dataset.

Raises `MissingDataError`. One that is published as files registers `download(root)` and `archives()`, which lists them with
their checksums (`registry/_archives.py`). The fields `per_class` and `test_per_class` are not its business: they work for
every set."""
