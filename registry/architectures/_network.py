"""What the families share: parts in a row with a linear head, pooling, and the two ways in which papers draw weights."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import EntryError, ImageSet
from unlearnable_bench.registry._weights import verified_folder

SAMPLE = 1 << 24  # values of images that a network looks at before its training: 5,461 images of 3x32x32


class Network(nn.Module):
    """Parts that run one after another from images to features, and a linear head."""

    def __init__(self, parts: Iterable[nn.Module], head: nn.Linear) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        return self.parts(x)  # type: ignore[no-any-return]  # (B, D)

    def layers(self) -> list[nn.Module]:
        return [*(part for part in self.parts if any(True for _ in part.parameters())), self.head]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


class GlobalPool(nn.Module):
    """Mean over all positions: at 32x32 the same as the fixed windows of the papers' code, and right for other sizes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(x, (2, 3))  # (B, C)


class PreActivation(nn.Module):
    """Two 3x3 convolutions, each after batch normalisation and ReLU, beside a shortcut; optionally squeeze and excitation.

    Where width or stride changes, the shortcut is a 1x1 convolution of the activated input, without normalisation.
    """

    def __init__(self, inside: int, outside: int, stride: int, reduction: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        changes = stride != 1 or inside != outside
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if changes else None
        self.gate = None
        if reduction:
            narrow = outside // reduction
            self.gate = nn.Sequential(nn.Conv2d(outside, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, outside, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.norm1(x))
        branch = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        if self.gate is not None:
            branch = branch * self.gate(torch.mean(branch, (2, 3), keepdim=True))
        return branch + (x if self.shortcut is None else self.shortcut(active))  # type: ignore[no-any-return]


def normalised(convolution: nn.Conv2d) -> nn.Sequential:
    """Return the convolution followed by batch normalisation and ReLU."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True))


def begin(net: nn.Module, data: ImageSet, seen: Callable[[Tensor], Tensor] | None = None) -> None:
    """Show a network that has `start` a sample of the images that it will train on, evenly spread over the set.

    `seen` turns images, float32 in [0, 1] units, into what the network will see of them, where that is something else.
    """
    start = getattr(net, "start", None)
    if callable(start) and not getattr(net, "pretrained", False):
        apart = -(-data.images.numel() // SAMPLE)
        x = data.pixels(torch.arange(0, len(data), apart))
        start(seen(x) if seen else x)


def pretrained(net: nn.Module, name: str, weights: str, checksum: str) -> nn.Module:
    """Return the network with weights of the user in all layers but its head, which stays as it was drawn.

    They are the file model.safetensors of a folder of $BENCH_DATA/weights, with the names of `state_dict`. A network may say
    by `weights_prefix` what stands before its names and not in the file. EntryError where they are not there or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    owner = f"architecture {name}"
    path = verified_folder(owner, weights, checksum) / "model.safetensors"
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EntryError(f"{owner}: {path} cannot be read as safetensors: {str(error).splitlines()[0]}") from None
    prefix = getattr(net, "weights_prefix", "")
    state = body_state(net)
    wanted = {key.removeprefix(prefix): value for key, value in state.items()}
    if wrong := _misfit(wanted, found):
        raise EntryError(f"{owner}: {path} has weights of another network: {wrong}")
    net.load_state_dict({prefix + key: found[key] for key in wanted}, strict=False)
    net.pretrained = True  # type: ignore[assignment]
    return net


def body_state(net: nn.Module) -> dict[str, Tensor]:
    """Return the weights and statistics of a network, those of its head apart, as `state_dict` names them."""
    head: object = net.head
    heads = tuple(f"{name}." for name, module in net.named_modules() if module is head)
    return {key: value for key, value in net.state_dict().items() if not key.startswith(heads)}


def _misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say in a few words where weights do not fit; '' where they do. What is found beyond is a head."""
    for key, value in wanted.items():
        if key not in found:
            return f"{key} is missing"
        if found[key].shape != value.shape:
            return f"{key} is {tuple(found[key].shape)}, this network has {tuple(value.shape)}"
    return ""


def draw_as_torch(net: nn.Module) -> None:
    """Draw all weights anew as torch does, uniform within 1 / sqrt(fan in); normalisations start at one."""
    for module in net.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


def draw_as_he(net: nn.Module, mode: str = "fan_out") -> None:
    """Draw convolutions normally with variance 2 / fan, their biases zero, and all else as torch does."""
    draw_as_torch(net)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")  # type: ignore[arg-type]
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def need_side(name: str, least: int, image_size: int) -> None:
    """Raise EntryError if images of this side are too small for the network called `name`."""
    if image_size < least:
        raise EntryError(f"{name} needs images of {least}x{least} or larger, not {image_size}x{image_size}")
