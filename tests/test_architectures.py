"""What every architecture promises: logits, features, a head and its layers in order; and the sizes the papers state."""

import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from unlearnable_bench.registry import ARCHITECTURES, EntryError

COUNTS = {  # parameters for 10 and 100 classes
    "small-cnn": (24_346, 30_196),
    "resnet9": (534_168, 545_688),
    "resnet18": (11_173_962, 11_220_132),
    "resnet50": (23_520_842, 23_705_252),
    "resnet18-imagenet": (11_181_642, 11_227_812),
    "timm": (11_181_642, 11_227_812),
    "resnet50-imagenet": (23_528_522, 23_712_932),
    "vgg16": (14_728_266, 14_774_436),
    "vgg16-mlp": (15_253_578, 15_299_748),
    "vgg11": (9_231_114, 9_277_284),
    "densenet121": (6_956_298, 7_048_548),
    "densenet121-imagenet": (6_964_106, 7_056_356),
    "wrn28-10": (36_481_434, 36_539_124),
    "wrn28-10-preact": (36_479_194, 36_536_884),
    "wrn34-10": (46_162_714, 46_220_404),
    "wrn34-10-preact": (46_160_474, 46_218_164),
    "mobilenetv2": (2_296_922, 2_412_212),
    "mobilenetv2-imagenet": (2_236_682, 2_351_972),
    "senet18": (11_260_354, 11_306_524),
    "googlenet": (6_166_250, 6_258_500),
    "vgg19": (20_040_522, 20_086_692),
    "resnet34": (21_282_122, 21_328_292),
    "vit-lfu": (6_408_586, 6_443_236),
    "vit-iss": (9_523_722, 9_569_892),
    "vit-apb": (9_622_512, 9_668_682),
    "cait-apb": (8_488_522, 8_534_692),
}
COSTS = {  # side of an image, 10^9 multiply-adds of a forward pass, and half a unit of the last printed digit
    "small-cnn": (32, 0.0007, 0.00005),
    "resnet9": (32, 0.0274, 0.00005),
    "resnet18": (32, 0.555, 0.0005),
    "resnet50": (32, 1.298, 0.0005),
    "resnet18-imagenet": (224, 1.814, 0.0005),
    "timm": (224, 1.814, 0.0005),
    "resnet50-imagenet": (32, 0.084, 0.0005),
    "vgg16": (32, 0.313, 0.0005),
    "vgg16-mlp": (32, 0.314, 0.0005),
    "vgg11": (32, 0.153, 0.0005),
    "vgg19": (32, 0.398, 0.0005),
    "resnet34": (32, 1.16, 0.005),
    "densenet121": (32, 0.888, 0.0005),
    "densenet121-imagenet": (32, 0.058, 0.0005),
    "wrn28-10": (32, 5.24, 0.005),
    "wrn28-10-preact": (32, 5.24, 0.005),
    "wrn34-10": (32, 6.66, 0.005),
    "wrn34-10-preact": (32, 6.66, 0.005),
    "mobilenetv2": (32, 0.091, 0.0005),
    "mobilenetv2-imagenet": (32, 0.006, 0.0005),
    "senet18": (32, 0.556, 0.0005),
    "googlenet": (32, 1.52, 0.005),
    "vit-lfu": (32, 0.427, 0.0005),
    "vit-iss": (32, 0.641, 0.0005),
    "vit-apb": (32, 0.647, 0.0005),
    "cait-apb": (32, 0.478, 0.0005),  # all blocks; one fewer, as a draw of layer drop leaves it, takes 0.407
}
SMALLEST = {"resnet9": 9, "vgg16": 32, "vgg16-mlp": 32, "vgg11": 32, "vgg19": 32, "densenet121-imagenet": 29}  # side in pixels
TRANSFORMERS = ["vit-lfu", "vit-iss", "vit-apb", "cait-apb"]
NORMAL = {  # drawn normally with variance 2 / fan: which fan
    "resnet18-imagenet": "out",
    "resnet50-imagenet": "out",
    "mobilenetv2-imagenet": "out",
    "vgg16-mlp": "out",
    "densenet121-imagenet": "in",
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def net(name):
    """A network of ten classes; one at a time is in memory."""
    torch.manual_seed(0)
    return ARCHITECTURES[name](10).eval()


def sketch(name, *arguments):
    """A network that has shapes and no values."""
    with torch.device("meta"):
        return ARCHITECTURES[name](*arguments)


@pytest.fixture
def side(name):
    """Of the smallest images that a network says it takes, in pixels; the costs are measured at 32."""
    return SMALLEST.get(name, 32 if name in TRANSFORMERS else 8)


@pytest.fixture(scope="module")
def outline(name):
    """A network of a hundred classes without values."""
    return sketch(name, 100)


def matrices(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_an_architecture_has_the_published_number_of_parameters(name, net, outline):
    """A stem or a head that differs by a layer makes numbers that nobody can compare."""
    assert tuple(sum(p.numel() for p in built.parameters()) for built in (net, outline)) == COUNTS[name]


def test_an_architecture_costs_what_it_should(name, net):
    """Strides and pools have no parameters; the multiply-adds, those of attention among them, tell them apart."""
    side, expected, digit = COSTS[name]
    with FlopCounterMode(display=False) as counter:
        net(torch.rand(1, 3, side, side))
    assert counter.get_total_flops() / 2e9 == pytest.approx(expected, abs=digit + 0.001 * expected)


def test_logits_are_the_head_of_the_features(net, side):
    """Analyses and defenses read features; the head is the last linear layer."""
    x = torch.rand(2, 3, side, side)
    with torch.no_grad():
        features, logits = net.features(x), net(x)
    assert features.ndim == 2 and len(features) == 2
    assert isinstance(net.head, nn.Linear) and net.head.in_features == features.shape[1]
    assert logits.shape == (2, 10) and torch.equal(logits, net.head(features))
    assert (logits[0] != logits[1]).all()


def test_layers_hold_every_parameter_once_from_input_to_output(net, side):
    """Defenses that freeze or learn layer by layer must not miss a part."""
    layers = net.layers()
    held = [p for layer in layers for p in layer.parameters()]
    assert len({id(p) for p in held}) == len(held)
    assert {id(p) for p in held} == {id(p) for p in net.parameters()}
    assert layers[-1] is net.head
    seen: list[int] = []
    hooks = [part.register_forward_pre_hook(lambda *_, i=i: seen.append(i)) for i, part in enumerate(first_modules(layers))]
    with torch.no_grad():
        net(torch.rand(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    assert seen == list(range(len(layers)))


def first_modules(layers: list[nn.Module]) -> list[nn.Module]:
    """The first module with parameters of every layer: containers may be called by their parts."""
    return [next(m for m in layer.modules() if m._parameters) for layer in layers]


def test_normalisation_starts_at_one(name, net):
    """timm starts the last one of every block at zero, which changes how poisons are learnt."""
    if name == "timm":
        pytest.skip("drawn as the library draws it: for weights of the user")
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)]
    assert norms and all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)


def test_weights_are_drawn_as_in_the_papers_code(name, net):
    """As torch draws them, uniform within 1 / sqrt(fan in); some networks normally with variance 2 / fan."""
    if name == "timm":
        pytest.skip("drawn as the library draws it: for weights of the user")
    for module in matrices(net):
        fan_in = module.weight[0].numel()
        if name in NORMAL and isinstance(module, nn.Conv2d):
            fan = fan_in if NORMAL[name] == "in" else len(module.weight) * module.weight[0, 0].numel()
            error = 3 / math.sqrt(module.weight.numel())  # four standard errors of the spread
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=error)
            assert module.bias is None or (module.bias == 0).all()
        elif name == "resnet9" and isinstance(module, nn.Conv2d) and len(module.weight) == module.in_channels:
            assert torch.equal(module.weight, nn.init.dirac_(torch.empty_like(module.weight)))
        elif not (name == "mobilenetv2-imagenet" and module is net.head):
            assert module.weight.abs().max() <= fan_in**-0.5 * (1 + 1e-6)
            assert module.weight.abs().max() > 0.9 * fan_in**-0.5
    if name in ("densenet121-imagenet", "mobilenetv2-imagenet"):
        assert (net.head.bias == 0).all()
    if name == "mobilenetv2-imagenet":
        assert net.head.weight.std().item() == pytest.approx(0.01, rel=0.05)
    if name in TRANSFORMERS:
        embedding = net.layers()[0]
        assert embedding.positions.shape[1] == (64 if name == "cait-apb" else 65)
        assert embedding.positions.std().item() == pytest.approx(1, rel=0.03)


def test_the_same_seed_gives_the_same_network(name, net):
    """Half of what a cell's seed is for."""
    torch.manual_seed(0)
    again = ARCHITECTURES[name](10)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), again.parameters(), strict=True))


def test_every_parameter_is_trained(net, side):
    """A batch of two is the smallest that normalisation takes."""
    net.train()
    net.layer_drop = 0.0
    net(torch.rand(2, 3, side, side)).sum().backward()
    net.eval()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=True)


def test_other_channels_and_sizes_work(name):
    """Users bring gray images, and larger ones."""
    net = sketch(name, 5, 1, 36).to_empty(device="cpu").eval()  # values do not matter, and drawing them takes longest
    with torch.no_grad():
        assert net(torch.rand(1, 1, 36, 36)).shape == (1, 5)


@pytest.mark.parametrize(("name", "side"), SMALLEST.items())
def test_too_small_images_are_refused_in_a_sentence(name, side):
    """One pixel less and the last pooling has nothing to pool."""
    with pytest.raises(EntryError, match=f"{name} needs images of {side}x{side} or larger, not {side - 1}x{side - 1}"):
        sketch(name, 2, 3, side - 1)
    with pytest.raises(RuntimeError):
        sketch(name, 2)(torch.rand(2, 3, side - 1, side - 1, device="meta"))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_refuse_images_that_they_cannot_cut_or_were_not_made_for(name):
    """Positions are learned for one size."""
    with pytest.raises(EntryError, match="divisible by 4, not images of 30x30"):
        sketch(name, 2, 3, 30)
    with pytest.raises(EntryError, match="made for images of 3x32x32, not 3x32x64"):
        sketch(name, 2)(torch.rand(1, 3, 32, 64, device="meta"))


def test_an_architecture_pickles(outline):
    """Networks go into checkpoints and to other processes."""
    assert type(pickle.loads(pickle.dumps(outline))) is type(outline)  # noqa: S301  (our own object)


@pytest.mark.parametrize(
    ("name", "original"),
    [("resnet18-imagenet", "resnet18"), ("densenet121-imagenet", "densenet121"), ("mobilenetv2-imagenet", "mobilenetv2_100")],
)
def test_stock_networks_compute_what_timm_computes(name, original):
    """We put timm's blocks into a row of our own; nothing may be lost between them."""
    import timm

    torch.manual_seed(0)
    ours, theirs = ARCHITECTURES[name](4).eval(), timm.create_model(original, num_classes=4).eval()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
        x = torch.rand(2, 3, 64, 64)
        assert torch.allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-6)  # sums in another order


def test_attention_is_that_of_the_formula():
    """Scale, learned temperature, masked diagonal and the mixing of heads, against torch's own attention."""
    torch.manual_seed(0)
    x = torch.rand(2, 65, 384)
    cases = [("vit-lfu", 384**-0.5, False), ("vit-iss", 64**-0.5, False), ("vit-apb", 0.3, True)]
    for name, scale, masked in cases:
        layer = ARCHITECTURES[name](2).eval().layers()[1].attention
        tokens = x.repeat(1, 1, 2)[:, :, : layer.mix.in_features]
        if masked:
            assert layer.temperature.exp().item() == pytest.approx(64**-0.5)
            nn.init.constant_(layer.temperature, math.log(scale))
        query, key, value = (split(part, layer.heads) for part in layer.mix(tokens).chunk(3, 2))
        mask = ~torch.eye(65, dtype=torch.bool) if masked else None
        expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        assert torch.allclose(layer(tokens), layer.out(expected.transpose(1, 2).flatten(2)), atol=1e-6)


def test_cait_mixes_heads_before_and_after_the_softmax():
    """With a permutation of the heads as matrix, mixing is reading another head."""
    torch.manual_seed(0)
    layer = ARCHITECTURES["cait-apb"](2).eval().layers()[1].attention
    tokens, seen = torch.rand(2, 3, 512), torch.rand(2, 7, 512)
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    nn.init.eye_(layer.before)
    layer.after.data = torch.eye(6)[:, order]
    key, value = (split(part, 6) for part in layer.key_value(seen).chunk(2, 2))
    weights = (split(layer.query(tokens), 6) @ key.mT / 8).softmax(3)
    assert torch.allclose(layer(tokens, seen), layer.out((weights[:, order] @ value).transpose(1, 2).flatten(2)), atol=1e-6)
    layer.before.data, layer.after.data = layer.after.data, torch.eye(6)
    weights = (split(layer.query(tokens), 6) @ key.mT / 8)[:, order].softmax(3)
    assert torch.allclose(layer(tokens, seen), layer.out((weights @ value).transpose(1, 2).flatten(2)), atol=1e-6)


def split(x, heads):
    """Tokens (B, n, heads * w) to heads (B, heads, n, w)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def test_vit_apb_sees_the_image_beside_four_copies_shifted_by_a_pixel():
    """Tokens of shifted patches, against copies moved by hand."""
    torch.manual_seed(0)
    patches = ARCHITECTURES["vit-apb"](2, 1, 8).layers()[0].patches
    x = torch.rand(1, 1, 8, 8)
    zeros = torch.zeros(1, 1, 8, 8)
    right, left, down, up = (zeros.clone() for _ in range(4))
    right[..., 1:], left[..., :-1], down[..., 1:, :], up[..., :-1, :] = x[..., :-1], x[..., 1:], x[..., :-1, :], x[..., 1:, :]
    copies = torch.cat((x, right, left, down, up), 1)
    corner = copies[:, :, 4:, :4].flatten(1)  # the third patch
    assert torch.allclose(patches(x)[:, 2], patches.project(patches.norm(corner)), atol=1e-6)


def test_cait_leaves_out_blocks_in_training_only_and_never_all_of_them():
    """Layer drop of 0.05 for every block of the two rows."""
    torch.manual_seed(0)
    net = sketch("cait-apb", 2)
    assert len(net.eval().kept(net.blocks)) == 6
    net.train()
    assert 5.5 < sum(len(net.kept(net.blocks)) for _ in range(200)) / 200 < 5.9
    net.layer_drop = 1.0
    assert len(net.kept(net.blocks)) == len(net.kept(net.class_blocks)) == 1


def test_dropout_has_the_rate_of_the_papers_code(name, outline):
    """The rates are easily lost in a rewrite, and show in no count."""
    rates = {"vgg16-mlp": {0.5}, "mobilenetv2-imagenet": {0.2}, "vit-iss": {0.1}, "vit-apb": {0.1}, "cait-apb": {0.1}}
    assert {m.p for m in outline.modules() if isinstance(m, nn.Dropout)} - {0.0} == rates.get(name, set())


def test_the_first_layer_of_resnet9_whitens_the_patches_of_the_images_it_was_shown():
    """Patches of images like those come out uncorrelated with variance one, unless there was hardly any variance."""
    torch.manual_seed(0)
    net = ARCHITECTURES["resnet9"](10)
    smooth = nn.functional.interpolate(torch.randn(200, 3, 8, 8), scale_factor=4, mode="bilinear")
    net.start(smooth)
    first = net.layers()[0]
    found = nn.functional.conv2d(smooth, first.axes).transpose(0, 1).flatten(1)  # (12, patches)
    moments = found.cov()
    assert (moments - torch.diag(moments.diag())).abs().max() < 0.01
    assert moments.diag().max() == pytest.approx(1, abs=0.05)
    assert moments.diag().max() < 1.001


def test_resnet9_does_not_look_for_colors_where_it_was_shown_gray_images():
    """Whitening would blow up what the training images lack: the test images of a grayscale defense have their colors."""
    torch.manual_seed(0)
    first = ARCHITECTURES["resnet9"](10).layers()[0]
    gray = torch.randn(64, 1, 16, 16).expand(-1, 3, -1, -1)
    first.fit(gray)
    colors = torch.randn(64, 3, 16, 16)
    colors = colors - colors.mean(1, keepdim=True)
    assert nn.functional.conv2d(gray, first.axes).std() > 0.3
    assert nn.functional.conv2d(colors, first.axes).abs().max() < 0.01
