"""What every architecture promises: logits, features, a head and its layers in order; and the sizes the papers state."""

import pickle

import pytest
import torch
from torch import nn

from registry import ARCHITECTURES

COUNTS = {
    ("small-cnn", 10): 24_346,
    ("resnet18", 10): 11_173_962,
    ("resnet18", 100): 11_220_132,
}


@pytest.fixture(scope="module")
def built():
    """Networks of three classes, built once."""
    torch.manual_seed(0)
    return {name: ARCHITECTURES[name](3) for name in ARCHITECTURES}


@pytest.mark.parametrize(("name", "classes"), COUNTS)
def test_an_architecture_has_the_published_number_of_parameters(name, classes):
    """A stem or a head that differs by a layer makes numbers that nobody can compare."""
    with torch.device("meta"):
        net = ARCHITECTURES[name](classes)
    assert sum(p.numel() for p in net.parameters()) == COUNTS[name, classes]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_the_head_of_the_features(built, name):
    """Analyses and defenses read features; the head is the last linear layer."""
    net, x = built[name].eval(), torch.rand(2, 3, 32, 32)
    features = net.features(x)
    assert features.ndim == 2 and len(features) == 2
    assert isinstance(net.head, nn.Linear) and net.head.in_features == features.shape[1]
    logits = net(x)
    assert logits.shape == (2, 3) and torch.equal(logits, net.head(features))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_hold_every_parameter_once_from_input_to_output(built, name):
    """Defenses that freeze or learn layer by layer must not miss a part."""
    net = built[name]
    layers = net.layers()
    held = [p for layer in layers for p in layer.parameters()]
    assert len({id(p) for p in held}) == len(held)
    assert {id(p) for p in held} == {id(p) for p in net.parameters()}
    assert layers[-1] is net.head
    seen: list[int] = []
    hooks = [part.register_forward_pre_hook(lambda *_, i=i: seen.append(i)) for i, part in enumerate(first_modules(layers))]
    net.eval()(torch.rand(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    assert seen == list(range(len(layers)))


def first_modules(layers: list[nn.Module]) -> list[nn.Module]:
    """The first module with parameters of every layer: containers may be called by their parts."""
    return [next(m for m in layer.modules() if m._parameters) for layer in layers]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_normalisation_starts_at_one(built, name):
    """timm starts the last one of every block at zero, which changes how poisons are learnt."""
    norms = [m for m in built[name].modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)]
    assert norms and all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)


@pytest.mark.parametrize("name", ["small-cnn", "resnet18"])
def test_weights_are_drawn_as_torch_draws_them(built, name):
    """The papers' code keeps torch's own initialisation: uniform within 1 / sqrt(fan in)."""
    for module in built[name].modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            assert module.weight.abs().max() <= bound * (1 + 1e-6)
            assert module.weight.abs().max() > 0.9 * bound


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_seed_gives_the_same_network(name):
    """Half of what a cell's seed is for."""
    states = []
    for _ in range(2):
        torch.manual_seed(4)
        states.append(ARCHITECTURES[name](2).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (4, 16), (3, 64)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_channels_and_sizes_work(name, channels, side):
    """Users bring gray images, and larger ones."""
    net = ARCHITECTURES[name](5, channels, side).train()
    logits = net(torch.rand(2, channels, side, side))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_pickles(name):
    """Networks go into checkpoints and to other processes."""
    with torch.device("meta"):
        net = ARCHITECTURES[name](2)
    assert type(pickle.loads(pickle.dumps(net))) is type(net)  # noqa: S301  (our own object)
