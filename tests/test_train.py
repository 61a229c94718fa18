"""The training loop, on tiny data."""

import contextlib
import dataclasses

import pytest
import torch
from torch import nn

from unlearnable_bench.benchmark.augment import AUGMENTATIONS, Batch, crop, flip, flip_alternating, floats, shift
from unlearnable_bench.benchmark.conformance import tiny
from unlearnable_bench.benchmark.train import SHAPES, Checkpoint, DivergedError, Training, judge_network, train
from unlearnable_bench.poisons.numerics import Numerics, can_compile, seeded
from unlearnable_bench.registry import ARCHITECTURES, DEFENSES, Defense, EntryError, Hooks, Protocol

SHORT = Protocol(epochs=2, batch=16, lr=0.05)


def fit(protocol=SHORT, defenses=(), seed=0, data=None):
    data = data or tiny()
    with seeded(seed, Numerics()):
        net = ARCHITECTURES["small-cnn"](data.num_classes)
        return train(net, data, data, protocol, defenses)


def test_the_same_seed_gives_the_same_curve_and_another_seed_another():
    """A cell is repeatable, and its seed matters."""
    first, second, other = fit(seed=0), fit(seed=0), fit(seed=1)
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    assert first.train_loss != other.train_loss


def test_training_learns_and_reports_every_step_and_epoch():
    """The loop really trains: sixteen images of each class are learnt by heart. Whoever waits sees every part of it."""
    seen = []
    data = tiny()
    with seeded(0, Numerics()):
        net = ARCHITECTURES["small-cnn"](4)
        protocol = dataclasses.replace(SHORT, epochs=30)
        curve = train(net, data, data, protocol, report=seen.append)
    assert curve.train_acc[-1] > 0.9
    steps = protocol.length(len(data))[0]
    trained = [now for now in seen if now.judged is None]
    assert sorted({now.step for now in trained}) == list(range(1, steps + 1)) and {now.steps for now in seen} == {steps}
    assert sorted({now.epoch for now in trained}) == list(range(31))
    assert [now.judged for now in seen if now.judged is not None] == [1.0] * 30, "64 images are one batch"
    assert all(now.images_per_second > 0 for now in seen)
    assert trained[-1].loss == pytest.approx(curve.train_loss[-1])
    assert curve.test_acc[-1] == seen[-1].accuracy == judge_network(net, data)[0]


def test_shifts_say_how_far_from_its_class_a_test_image_is_put():
    """The mark of a poison made towards the next class is a victim that answers one class before the true one."""
    data = tiny()

    class Before(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot((next(labels) - 1) % 4, 4).float()

    labels = iter([data.labels])
    assert judge_network(Before(), data)[2] == [0.0, 0.0, 0.0, 1.0]
    curve = fit()
    assert curve.shifts[0] == curve.test_acc[-1] and sum(curve.shifts) == pytest.approx(1)


def test_scaled_protocol_trains_a_part_of_the_epochs():
    """`name@0.5` means half of the epochs, and at least one."""
    assert len(fit(Protocol(epochs=4, batch=16, lr=0.01, scale=0.5)).test_acc) == 2
    assert Protocol(epochs=4, batch=16, scale=0.01).length(64) == (4, 4)


def test_hooks_of_a_chain_run_in_their_order():
    """A chain is augment left to right, then the one loss; configure and model act before."""
    calls = []

    @dataclasses.dataclass(frozen=True)
    class Spy(Defense):
        name: str = "a"

        def configure(self, protocol):
            calls.append(f"configure {self.name}")
            return dataclasses.replace(protocol, epochs=1)

        def model(self, net):
            calls.append(f"model {self.name}")
            return net

        def augment(self, x, y):
            calls.append(f"augment {self.name}")
            return x, y

    curve = fit(defenses=[Spy("a"), Spy("b"), DEFENSES["at"](steps=1)])
    assert len(curve.test_acc) == 1
    assert calls[:6] == ["configure a", "configure b", "model a", "model b", "augment a", "augment b"]


def test_a_loss_that_is_no_number_ends_the_training():
    """A diverged cell must not train on and must not become a record."""

    @dataclasses.dataclass(frozen=True)
    class Poisonous(Defense):
        def loss(self, model, x, y, progress):
            return super().loss(model, x, y, progress) * float("nan")

    with pytest.raises(DivergedError, match="training loss was nan in step 1 of 8"):
        fit(defenses=[Poisonous()])


def test_at_takes_the_protocols_own_schedule_for_adversarial_training():
    """Papers train longer under attack; the protocol says so, not the defense."""

    @dataclasses.dataclass(frozen=True)
    class Longer(Protocol):
        epochs: int = 1
        adversarial = {"epochs": 3}  # noqa: RUF012

    assert len(fit(Longer(batch=32, lr=0.01), [DEFENSES["at"](steps=1)]).test_acc) == 3
    assert len(fit(Longer(batch=32, lr=0.01)).test_acc) == 1
    assert len(fit(Longer(epochs=2, batch=32, lr=0.01), [DEFENSES["at"](steps=1)]).test_acc) == 2, "what is given wins"


def test_crop_shifts_every_image_its_own_way_and_flip_mirrors_half():
    """Augmentation is per image: a batch-wide draw would leak a constant to a network."""
    with seeded(0, Numerics()):
        x = torch.rand(256, 3, 8, 8)
        batch = Batch(8, torch.arange(256))
        shifted, mirrored = crop(x, batch), flip(x, batch)
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    windows = {(r, c): (shifted == padded[:, :, r : r + 8, c : c + 8]).flatten(1).all(1) for r in range(9) for c in range(9)}
    assert torch.stack(list(windows.values())).any(0).all(), "every image is a window of its padded self"
    assert sum(bool(found.any()) for found in windows.values()) > 60, "windows differ between images"
    flipped = (mirrored == x.flip(3)).flatten(1).all(1)
    assert 90 < int(flipped.sum()) < 166
    assert (mirrored[~flipped] == x[~flipped]).all()


def test_normalisation_is_part_of_the_victim_not_of_the_data():
    """Attacks and budgets stay in pixel units whatever mean a protocol has."""
    plain = fit(dataclasses.replace(SHORT, epochs=1))
    scaled = fit(dataclasses.replace(SHORT, epochs=1, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)))
    assert plain.train_loss != scaled.train_loss


def test_an_unknown_optimizer_or_schedule_is_one_sentence():
    """A protocol of somebody else may name what the loop has not."""
    with pytest.raises(EntryError, match="unknown optimizer 'lion'; known are sgd, adam and adamw"):
        fit(dataclasses.replace(SHORT, optimizer="lion"))
    with pytest.raises(EntryError, match="unknown schedule"):
        fit(dataclasses.replace(SHORT, schedule="never"))


class KilledError(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "milestones"])
def test_a_killed_training_goes_on_from_its_checkpoint_and_ends_the_same(tmp_path, optimizer, schedule):
    """Preemption and time limits cost minutes, not the cell, and never a digit of the result."""
    protocol = dataclasses.replace(SHORT, epochs=5, optimizer=optimizer, schedule=schedule, augmentation=("crop", "flip"))
    protocol = dataclasses.replace(protocol, lr=0.01, warmup=0.2, milestones=(0.5,))
    data, checkpoint = tiny(), Checkpoint(tmp_path / "deep" / "cell.pt", seconds=0)

    def go(report=None, checkpoint=None, seed=0):
        with seeded(seed, Numerics()):
            net = ARCHITECTURES["small-cnn"](4)
            defenses = [DEFENSES["cutout"](size=8)]
            return dataclasses.asdict(train(net, data, data, protocol, defenses, "cpu", report, None, checkpoint))

    def die(now):
        if now.epoch == 3:
            raise KilledError

    calm = go()
    with pytest.raises(KilledError):
        go(die, checkpoint)
    seen = []
    assert go(lambda now: seen.append(now.epoch), checkpoint) == calm
    assert sorted(set(seen)) == [3, 4, 5], "it went on, it did not begin anew"
    training = Training(ARCHITECTURES["small-cnn"](4), data, protocol, [], "cpu", Numerics())
    training._resume(checkpoint.load() | {"hooks": []})
    assert training.earlier.seconds > 0 and training.earlier.cpu_seconds > 0, "what the process that died spent counts"
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    assert go(None, checkpoint) == calm, "a torn checkpoint costs time, nothing else"
    checkpoint.remove()
    assert not checkpoint.path.exists()


@pytest.mark.parametrize("fields", [{"steps": 7}, {"steps": 7, "drop_last": True}, {"epochs": 3}])
def test_length_counts_steps_and_incomplete_batches(fields):
    """A protocol of 40,000 steps trains 40,000 steps, whatever the size of the set."""
    protocol = Protocol(batch=10, lr=0.01, **fields)
    data = tiny(size=44)
    with seeded(0, Numerics()):
        training = Training(ARCHITECTURES["small-cnn"](4), data, protocol, [], "cpu", Numerics())
        curve = training.run(data, None, None)
    per_epoch = 4 if protocol.drop_last else 5
    assert training.step == fields.get("steps", 3 * per_epoch)
    assert len(curve.test_acc) == -(-training.step // per_epoch)


def rates(protocol, epochs=6):
    """The learning rate of every step."""
    data, seen = tiny(), []

    @dataclasses.dataclass(frozen=True)
    class Watch(Defense):
        def start(self, run):
            class Seen(Hooks):
                def batch(self, x, y, index):
                    seen.append(run.optimizer.param_groups[0]["lr"])
                    return x, y

            return Seen()

    fit(dataclasses.replace(protocol, epochs=epochs, batch=16), [Watch()], data=data)
    return seen


def test_schedules_are_what_their_names_say():
    """Against torch's own schedulers, step by step."""
    weight = [torch.nn.Parameter(torch.zeros(1))]

    def reference(kind, per_epoch=1, **options):
        optimizer = torch.optim.SGD(weight, 0.1)
        schedule, found = kind(optimizer, **options), []
        for step in range(24):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if (step + 1) % per_epoch == 0:
                schedule.step()
        return found

    lr = torch.optim.lr_scheduler
    base = Protocol(lr=0.1)
    assert rates(base) == pytest.approx(reference(lr.CosineAnnealingLR, T_max=24))
    epoch = dataclasses.replace(base, schedule="cosine-epoch")
    assert rates(epoch) == pytest.approx(reference(lr.CosineAnnealingLR, 4, T_max=6))
    steps = dataclasses.replace(base, schedule="milestones", milestones=(0.5, 0.75))
    assert rates(steps) == pytest.approx(reference(lr.MultiStepLR, milestones=[12, 18]))
    assert rates(dataclasses.replace(base, schedule="constant")) == [0.1] * 24
    one = dataclasses.replace(base, schedule="onecycle", warmup=0.25)
    assert rates(one) == pytest.approx(reference(lr.OneCycleLR, max_lr=0.1, total_steps=24, pct_start=0.25))
    climbing = rates(dataclasses.replace(base, schedule="constant", warmup=0.25))
    assert climbing[:6] == sorted(climbing[:6])
    assert climbing[6:] == [0.1] * 18


def test_hooks_select_roll_back_scale_layers_and_restart():
    """What staged training and coreset selection need, with no change to the loop."""
    seen = {"sizes": [], "norms": [], "rates": []}

    @dataclasses.dataclass(frozen=True)
    class Staged(Defense):
        def start(self, run):
            class Stages(Hooks):
                def batch(self, x, y, index):
                    seen["sizes"].append(len(index))
                    assert (run.train.labels[index] == y).all(), "the index says which images a batch holds"
                    return x, y

                def after_epoch(self, epoch):
                    seen["norms"].append(float(sum(p.detach().norm() for p in run.model.parameters())))
                    seen["rates"].append([group["lr"] for group in run.optimizer.param_groups])
                    if epoch == 1:
                        run.factors([0.0] + [1.0] * (len(run.weights) - 1))
                        run.frozen = run.layers[0][0].weight.detach().clone()
                    if epoch == 2:
                        assert torch.equal(run.frozen, run.layers[0][0].weight), "a factor of 0 freezes a layer"
                        run.rollback()
                        seen["back"] = float(sum(p.detach().norm() for p in run.model.parameters()))
                        run.keep(run.train.labels == 1)
                    if epoch == 4:
                        run.restart(0.02, 2)

            return Stages()

    curve = fit(dataclasses.replace(SHORT, epochs=4, momentum=0.0, weight_decay=0.0), [Staged()])
    assert len(curve.test_acc) == 6, "two epochs after the restart"
    assert seen["sizes"] == [16] * 8 + [16] * 4, "sixteen images of class 1 are one batch"
    assert seen["back"] == seen["norms"][0] != seen["norms"][1]
    assert seen["rates"][1][0] == 0.0 < seen["rates"][1][1]
    assert len(set(seen["rates"][4])) == 1, "all layers alike after a restart"


def test_a_set_that_does_not_fit_the_device_is_streamed_to_the_same_result(monkeypatch):
    """ImageNet-sized sets train from a memory map; where the images lie must not show in a number."""
    from unlearnable_bench.benchmark import train as module

    calm = fit()
    pinned = set()

    class Streamed(module._Source):
        def __init__(self, data, device):
            super().__init__(data, device)
            self.resident = False

    def pin(tensor):
        pinned.add((tensor.ndim, tensor.dtype))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)  # which needs a GPU
    monkeypatch.setattr(module, "_Source", Streamed)
    assert dataclasses.asdict(fit()) == dataclasses.asdict(calm)
    assert pinned == {(4, torch.uint8), (1, torch.int64)}, "copied without waiting: images and labels"


@pytest.mark.parametrize(("device", "chosen"), [("cuda:1", ["cuda:1"]), ("cpu", [])])
def test_the_thread_that_prepares_batches_works_for_the_gpu_of_the_training(device, chosen, monkeypatch):
    """It opened the first GPU, whose memory others were using."""
    from unlearnable_bench.benchmark import train as module

    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    source = module._Source(tiny(8), "cpu")
    source.resident, source.device = False, device
    with contextlib.closing(source.batches([torch.arange(4)])) as batches, contextlib.suppress(AssertionError, RuntimeError):
        next(batches)  # which fails where there is no GPU to copy to
    assert calls == chosen


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_keep_range_and_shape_and_draw_for_every_image(name):
    """One draw for a whole batch would be a constant that a network can learn."""
    x = torch.rand(1, 3, 16, 16).expand(64, -1, -1, -1).contiguous()
    with seeded(0, Numerics()):
        y = AUGMENTATIONS[name](x, Batch(16, torch.arange(64)))
    assert y.shape == x.shape
    assert y.min() >= 0
    assert y.max() <= 1 + 1e-6
    different = {tuple(image.flatten()[:50].tolist()) for image in y}
    assert len(different) == 2 if name.startswith("flip") else len(different) > 20


@pytest.mark.parametrize("name", ["crop", "flip", "flip-alternating", "shift"])
def test_cutting_and_mirroring_treat_8_bits_as_they_treat_floats(name):
    """They run on the set as it is stored; a value must come out where its float would."""
    pixels, batch = torch.randint(0, 256, (32, 3, 12, 16), dtype=torch.uint8), Batch(12, torch.arange(32))
    with seeded(0, Numerics()):
        moved = AUGMENTATIONS[name](pixels.contiguous(memory_format=torch.channels_last), batch)
    with seeded(0, Numerics()):
        computed = AUGMENTATIONS[name](floats(pixels), batch)
    assert moved.dtype == torch.uint8
    assert torch.equal(floats(moved), computed)


def test_resized_crop_gives_the_size_asked_for_and_crops_within_the_image():
    """A constant image stays constant: no border is invented."""
    with seeded(0, Numerics()):
        y = AUGMENTATIONS["resized-crop"](torch.full((32, 3, 20, 24), 0.25), Batch(12, torch.arange(32)))
    assert y.shape == (32, 3, 12, 12)
    assert torch.allclose(y, torch.tensor(0.25), atol=1e-5)


def test_an_unknown_augmentation_is_one_sentence():
    """A protocol of somebody else may name what the loop has not."""
    with pytest.raises(EntryError, match="unknown augmentation 'swirl'; known are crop"):
        fit(dataclasses.replace(SHORT, augmentation=("swirl",)))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, when it first compiles
def test_a_compiled_network_trains_alike_and_its_checkpoint_is_a_plain_one(tmp_path):
    """torch.compile is for GPUs; what it changes in the loop is tested here: names in checkpoints, losses, resume."""
    data = tiny()
    plain = fit()

    def compiled(checkpoint=None):
        with seeded(0, Numerics()):
            net = ARCHITECTURES["small-cnn"](data.num_classes)
            return train(net, data, data, SHORT, numerics=Numerics(compile=True), checkpoint=checkpoint)

    curve = compiled(Checkpoint(tmp_path / "state.pt", seconds=0))
    assert curve.train_loss == pytest.approx(plain.train_loss, rel=1e-3)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    with seeded(0, Numerics()):
        uncompiled = Training(ARCHITECTURES["small-cnn"](data.num_classes), data, SHORT, (), "cpu", Numerics())
    assert set(state["model"]) == set(uncompiled.model.state_dict())
    assert dataclasses.asdict(compiled(Checkpoint(tmp_path / "state.pt"))) == dataclasses.asdict(curve)


def test_the_work_of_a_training_is_counted_from_the_network_and_the_defense():
    """torch.compile is chosen by it, so it must not depend on anything else."""
    data = tiny(classes=10)
    protocol = Protocol(epochs=2, batch=32)
    with seeded(0, Numerics()):
        net = ARCHITECTURES["resnet18"](10)
        plain = Training(net, data, protocol, (), "cpu", Numerics())
        attacked = Training(net, data, protocol, (DEFENSES["at"](),), "cpu", Numerics())
    assert plain.work(net) == pytest.approx(2 * 64 * 3 * 2 * 0.555e9, rel=0.01), "multiply-adds count twice"
    assert attacked.work(net) == pytest.approx(plain.work(net) * 23 / 3)
    assert not can_compile("cpu")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_training_is_compiled_where_it_is_long_and_the_device_can(monkeypatch):
    """The start of torch.compile takes a minute; short trainings are faster without."""
    from unlearnable_bench.benchmark import train as module

    monkeypatch.setattr(module, "can_compile", lambda device: True)
    monkeypatch.setattr(module, "compiles", lambda device: True)
    data = tiny()
    net = ARCHITECTURES["small-cnn"](4)
    long = Protocol(epochs=10**9, batch=32)
    assert Training(net, data, long, (), "cpu", Numerics()).numerics.compile
    assert not Training(net, data, SHORT, (), "cpu", Numerics()).numerics.compile


def test_the_work_of_transformers_can_be_counted():
    """Attention is counted by another path than convolutions."""
    data = tiny(classes=10)
    net = ARCHITECTURES["vit-lfu"](10)
    counted = Training(net, data, Protocol(epochs=1, batch=64), (), "cpu", Numerics()).work(net)
    assert counted == pytest.approx(64 * 3 * 2 * 0.427e9, rel=0.01)


def test_a_cosine_ends_at_its_floor():
    """The papers' transformers end at a hundredth of the peak."""
    for schedule in ("cosine", "cosine-epoch"):
        protocol = Protocol(schedule=schedule, floor=0.01)
        assert SHAPES[schedule](protocol, 0, 1000, 1) == 1.0
        assert SHAPES[schedule](protocol, 1000, 1000, 1) == pytest.approx(0.01)


def test_a_shift_moves_the_image_and_mirrors_it_at_the_border():
    """Checked against the library's reflecting border, cut at every possible place."""
    x = torch.rand(64, 3, 6, 8)
    with seeded(0, Numerics()):
        y = shift(x, Batch(6, torch.arange(64)))
    padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    cuts = torch.stack([padded[:, :, row : row + 6, column : column + 8] for row in range(5) for column in range(5)])
    hits = (cuts == y).flatten(2).all(2)  # (25, 64)
    assert (hits.sum(0) == 1).all()
    assert (hits.sum(1) > 0).sum() > 15  # all of them are drawn


def test_alternating_flips_show_every_image_both_ways_in_two_epochs():
    """What chance does for half of the images only; the choice follows the image, whatever batch it comes in."""
    x, index = torch.rand(256, 3, 4, 4), torch.arange(256)
    first, second, third = (flip_alternating(x, Batch(4, index, epoch, seed=7)) for epoch in range(3))
    assert torch.equal(second, first.flip(3))
    assert torch.equal(third, first)
    mirrored = (first != x).flatten(1).any(1)
    assert 96 < mirrored.sum() < 160
    part = torch.tensor([200, 3, 77])
    assert torch.equal(flip_alternating(x[part], Batch(4, part, 0, seed=7)), first[part])
    assert not torch.equal(flip_alternating(x, Batch(4, index, 0, seed=123456789)), first)


def test_without_shuffling_a_set_stored_class_by_class_is_seen_in_one_random_order():
    """Batches of one class teach nothing: APBench's recipe gave chance on every folder of images."""
    seen = []

    class Watching(Defense):
        def augment(self, x, y):
            seen.append(y.tolist())
            return x, y

    by_class = tiny().rows(tiny().labels.argsort(stable=True))
    for seed in (0, 1):
        fit(dataclasses.replace(SHORT, shuffle=False), (Watching(),), data=by_class, seed=seed)
    assert len(seen) == 16 and seen[:4] * 4 == seen, "the same batches in both epochs of both trainings"
    assert all(len(set(labels)) == 4 for labels in seen)


def test_smoothed_labels_reach_the_loss_as_the_library_smooths_them():
    """A defense's loss is handed soft labels, so that none of them needs to know."""
    seen = []

    class Watching(Defense):
        def augment(self, x, y):
            seen.append(y)
            return x, y

        def loss(self, model, x, y, progress):
            logits = model(x)
            seen.extend((logits.detach(), y))
            return nn.functional.cross_entropy(logits, y)

    fit(dataclasses.replace(SHORT, epochs=1, label_smoothing=0.2), (Watching(),))
    labels, logits, y, *_ = seen
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    assert torch.allclose(nn.functional.cross_entropy(logits, y), expected)
    plain = fit(dataclasses.replace(SHORT, label_smoothing=0.2))
    assert plain.train_acc != fit().train_acc
    assert max(plain.train_acc) > 0.3  # accuracy is still counted by class


def test_biases_and_normalizations_may_have_their_own_rate_and_no_decay():
    """Published speed records do so; a plain protocol has one group of parameters, as before."""
    data = tiny()
    net = ARCHITECTURES["small-cnn"](4)
    plain = Training(net, data, SHORT, (), "cpu", Numerics())
    assert len(plain.optimizer.param_groups) == 1
    recipe = dataclasses.replace(SHORT, decay_all=False, bias_lr=8.0)
    weights, vectors = Training(net, data, recipe, (), "cpu", Numerics()).optimizer.param_groups
    assert all(p.ndim > 1 for p in weights["params"]) and all(p.ndim == 1 for p in vectors["params"])
    assert (weights["weight_decay"], vectors["weight_decay"]) == (5e-4, 0.0)
    assert vectors["lr"] == pytest.approx(8 * weights["lr"])


def test_learning_rates_by_layer_and_by_kind_of_parameter_multiply():
    """A defense that slows layers does so to their biases too, and a new schedule starts from the factors."""

    class Slowing(Defense):
        def start(self, run):
            run.factors([0.5, 1.0, 1.0])
            return Hooks()

    recipe = dataclasses.replace(SHORT, bias_lr=4.0, schedule="constant")
    training = Training(ARCHITECTURES["small-cnn"](4), tiny(), recipe, (Slowing(),), "cpu", Numerics())
    rates = {(group["layer"], group["factor"]): group["lr"] for group in training.optimizer.param_groups}
    assert rates[0, 1.0] == pytest.approx(0.025) and rates[0, 4.0] == pytest.approx(0.1)
    assert rates[1, 1.0] == pytest.approx(0.05) and rates[2, 4.0] == pytest.approx(0.2)
    training.restart(0.01, 1)
    assert {group["lr"] for group in training.optimizer.param_groups} == {0.01, 0.04}


def test_a_protocol_may_judge_some_epochs_only_and_says_which():
    """The test set costs a tenth of a short training; the last epoch always counts."""
    curve = fit(dataclasses.replace(SHORT, epochs=5, judge_every=2))
    assert curve.epochs == [2, 4, 5]
    assert len(curve.test_acc) == len(curve.test_loss) == 3
    assert len(curve.train_acc) == 5
    every = fit(dataclasses.replace(SHORT, epochs=5))
    assert every.epochs == []
    assert [every.test_acc[1], every.test_acc[3], every.test_acc[4]] == curve.test_acc  # judging changes nothing


def test_every_epoch_is_judged_where_a_defense_acts_after_epochs():
    """One that ends the training, or takes an epoch back, looks at figures that must be there."""

    class Acting(Defense):
        def start(self, run):
            return Hooks()

    curve = fit(dataclasses.replace(SHORT, epochs=3, judge_every=3), (Acting(),))
    assert curve.epochs == [] and len(curve.test_acc) == 3


def test_a_network_sees_the_images_it_will_train_on_before_its_first_step():
    """Its first layer may be set from them: normalised as the protocol has it, evenly from the whole set."""
    seen = []
    data = tiny()
    net = ARCHITECTURES["small-cnn"](4)
    net.start = lambda images: seen.append(images)
    Training(net, data, dataclasses.replace(SHORT, mean=(0.5,) * 3, std=(0.25,) * 3), (), "cpu", Numerics())
    expected = (data.images.float() / 255 - 0.5) / 0.25
    assert torch.allclose(seen[0], expected, atol=1e-6)
