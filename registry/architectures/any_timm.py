"""Any network of the library timm, by its name there."""

from typing import Any

from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES, EntryError
from unlearnable_bench.registry.entry import unknown


class TimmNetwork(nn.Module):
    """A network of timm with its features, its head and its parts under the names of the contract."""

    weights_prefix = "net."  # which files of weights for timm do not have

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    @property
    def head(self) -> nn.Module:
        return self.net.get_classifier()  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> Tensor:
        return self.net.forward_head(self.net.forward_features(x), pre_logits=True)  # type: ignore[no-any-return]  # (B, D)

    def layers(self) -> list[nn.Module]:
        """Return its parts; tokens and positions of a transformer, which are in none, come first."""
        head = self.head
        parts = [nn.ParameterList(self.net.parameters(recurse=False)), *_parts(self.net, head)]
        body = [part for part in parts if part is not head and any(True for _ in part.parameters())]
        return [*body, head]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


def _parts(net: nn.Module, head: nn.Module) -> list[nn.Module]:
    """The children of a network in their order; rows of blocks, and what is around the head, taken apart."""
    parts: list[nn.Module] = []
    for child in net.children():
        around = child is not head and any(module is head for module in child.modules())
        if around:
            parts += _parts(child, head)
        else:
            parts += list(child.children()) if isinstance(child, nn.Sequential) else [child]
    return parts


@ARCHITECTURES.register("timm", display_name="Network of timm", label="timm {name}")
def any_timm(
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    name: str = "resnet18",  # of the network in timm
) -> nn.Module:
    """A network of timm as the library draws it, without its weights: these are `weights` and `checksum`, as for all networks.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes). The folder of weights has the file model.safetensors that
    timm's authors publish for this name; nothing is downloaded. Stock stems are made for 224x224: on small images choose a
    protocol's `input_size`. A transformer is made for the side that it will see. `name`: see `timm.list_models()`. Weights
    of ImageNet want `mean` and `std` of their own in the protocol. Source: R. Wightman, PyTorch Image Models.
    """
    import timm

    if name not in timm.list_models():
        raise EntryError(unknown("network of timm", name, timm.list_models(), "`timm.list_models()` has all names"))
    known = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = {"img_size": image_size} if known is not None and known.fixed_input_size else {}
    net = TimmNetwork(timm.create_model(name, num_classes=num_classes, in_chans=in_channels, **sized))
    if not isinstance(net.head, nn.Linear):
        raise EntryError(f"network of timm {name!r} ends with {type(net.head).__name__}; expected a linear layer")
    return net
