"""Victims that begin with weights: what is loaded, what is frozen, what is refused, and how weights are made."""

import hashlib
import json
import os
import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from conftest import bench, call_bench, tiny
from safetensors.torch import load_file, save_file

from unlearnable_bench.benchmark.cell import network
from unlearnable_bench.benchmark.train import Training
from unlearnable_bench.poisons.numerics import Numerics
from unlearnable_bench.registry import ARCHITECTURES, PROTOCOLS, DataInfo, EntryError
from unlearnable_bench.registry._public_weights import PUBLIC, PublicWeights
from unlearnable_bench.registry._weights import fingerprint_of_weights, weights_root
from unlearnable_bench.registry.architectures._network import body_state
from unlearnable_bench.registry.entry import Entry, Field

INFO = DataInfo((3, 32, 32), 4, 64)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A data folder of this test alone; digits that other tests decoded are there."""
    folder, decoded = tmp_path / "data", Path(os.environ["BENCH_DATA"]) / ".decoded"
    decoded.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    (folder / ".decoded").symlink_to(decoded)
    monkeypatch.setenv("BENCH_DATA", str(folder))
    return folder


def kept(name, state):
    """Put weights into the folder of weights and return how a spec names them."""
    folder = weights_root() / name
    folder.mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    return f"weights={name},checksum={fingerprint_of_weights(folder)}"


def made(spec, classes=4, side=32):
    (part,) = ARCHITECTURES.resolve(spec)
    return network(part, DataInfo(INFO.shape, classes, 64), side)


@pytest.mark.parametrize(
    "name", ["small-cnn", "resnet9", "resnet18-imagenet", "timm(name=resnet10t)", "timm(name=deit_tiny_patch16_224)"]
)
def test_all_layers_but_the_head_begin_with_the_weights(name):
    """A head of other classes is drawn anew; what was pretrained on seven classes is fine-tuned on four."""
    torch.manual_seed(0)
    before = made(name, classes=7)
    prefix = getattr(before, "weights_prefix", "")
    given = kept("seven", {key.removeprefix(prefix): value for key, value in before.state_dict().items()})
    bare = name.rstrip(")")
    torch.manual_seed(1)
    after = made(f"{bare},{given})" if "(" in bare else f"{bare}({given})")
    state = after.state_dict()
    for key, value in body_state(before).items():
        assert torch.equal(state[key], value), key
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(before.eval().features(x), after.eval().features(x))
    assert after.head(after.features(x)).shape == (2, 4)


def test_a_network_that_looks_at_its_images_first_does_not_when_it_is_pretrained():
    """The whitening of resnet9 belongs to the weights behind it."""
    (part,) = ARCHITECTURES.resolve(f"resnet9({kept('nine', made('resnet9').state_dict())})")
    net = network(part, INFO, 32)
    axes = net.parts[0].axes.clone()
    training = Training(net, tiny(), PROTOCOLS["finetune"](), (), "cpu", Numerics())
    assert torch.equal(training.model.net.parts[0].axes, axes)
    other = Training(made("resnet9"), tiny(), PROTOCOLS["finetune"](), (), "cpu", Numerics())
    assert not torch.equal(other.model.net.parts[0].axes, axes)


@pytest.mark.parametrize(("frozen", "moving"), [(0, [True] * 4), (2, [False, False, True, True]), (-1, [False] * 3 + [True])])
def test_frozen_layers_stand_with_their_statistics_and_the_others_move(frozen, moving):
    """Running means of a frozen batch normalization would follow the poison else."""
    net = made("small-cnn")
    training = Training(net, tiny(), PROTOCOLS["finetune"](epochs=1, batch=16, frozen=frozen), (), "cpu", Numerics())
    before = [{key: value.clone() for key, value in layer.state_dict().items()} for layer in training.layers]
    training.run(tiny(), None, None)
    for layer, old, moves in zip(training.layers, before, moving, strict=True):
        for key, value in layer.state_dict().items():
            assert torch.equal(value, old[key]) != moves, key


def test_more_frozen_layers_than_there_are_is_a_sentence():
    with pytest.raises(EntryError, match="frozen=4, and the network has 3 layers before its head; expected -1 to 3"):
        Training(made("small-cnn"), tiny(), PROTOCOLS["finetune"](frozen=4), (), "cpu", Numerics())


def test_a_second_network_begins_with_the_same_weights():
    """Defenses that train a twin would compare a pretrained network with one from scratch else."""
    given = kept("small", made("small-cnn").state_dict())
    net = made(f"small-cnn({given})")
    training = Training(net, tiny(), PROTOCOLS["finetune"](epochs=1, batch=16, frozen=-1), (), "cpu", Numerics())
    twin = training.twin(tiny(seed=1))
    body = body_state(training.model.net)
    assert body and all(torch.equal(body_state(twin.model.net)[key], value) for key, value in body.items())


def test_what_is_trained_without_labels_is_one_piece_that_cannot_be_frozen(tmp_path):
    """`frozen=-1` would have trained all of it, and the record would say a linear probe."""
    run = ("run", "--dataset", "digits(per_class=20,test_per_class=5)", "--architecture", "small-cnn", "--executor", "inline")
    _, error = bench(*run, "--protocol", "simclr(frozen=-1,epochs=1)", workspace=tmp_path, code=3)
    assert "frozen=-1, and the network has 0 layers before its head; expected 0" in error


def test_a_plug_in_that_has_weights_of_its_own_keeps_them():
    """A field of that name was a plug-in's before it was everybody's: its ids stay, and its function is given it."""
    own = Entry("architectures", "theirs", "their-package", "their_module", "net", fields=(Field("weights", "str", ""),))
    assert [field.name for field in own.common] == ["checksum"]
    assert own.later == {"checksum": ""} and own.hashed({"weights": "", "checksum": ""}) == {"weights": ""}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("small-cnn(weights=other,checksum=sha-1)", "there is no folder"),
        ("small-cnn(weights=here)", r"a spec must say which weights it means: small-cnn\(weights=here,checksum=sha-"),
        ("small-cnn(weights=here,checksum=sha-1)", "checksum=sha-1 was asked for"),
        ("small-cnn(checksum=sha-1)", "belongs to weights, and none are named"),
    ],
)
def test_weights_that_are_not_what_a_spec_says_end_the_run_before_it_begins(spec, sentence, tmp_path):
    kept("here", made("small-cnn").state_dict())
    run = ("run", "--dataset", "digits", "--protocol", "finetune", "--architecture", spec)
    _, error = call_bench(*run, workspace=tmp_path / "space", code=2)
    assert len(error.strip().splitlines()) == 1

    assert re.search(sentence, error)


def test_weights_of_another_network_are_a_sentence():
    given = kept("small", made("small-cnn").state_dict())
    with pytest.raises(EntryError, match=r"has weights of another network: parts\.0\.\w+ is missing"):
        made(f"resnet9({given})")
    broken = weights_root() / "broken"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EntryError, match="cannot be read as safetensors"):
        made(f"small-cnn(weights=broken,checksum={fingerprint_of_weights(broken)})")


def test_pretraining_writes_weights_that_a_run_begins_with(tmp_path, data):
    """Twice the same weights; the printed spec is the one that works; a folder that is there is never overwritten."""
    command = ("pretrain", "--dataset", "digits(per_class=20,test_per_class=5)", "--protocol", "quick@0.2")
    command += ("--architecture", "small-cnn", "--json")
    first = json.loads(bench(*command, "--out", "one", workspace=None, environment={"BENCH_DATA": str(data)})[0])
    again = json.loads(bench(*command, "--out", "two", workspace=None, environment={"BENCH_DATA": str(data)})[0])
    assert first["spec"].partition("checksum")[2] == again["spec"].partition("checksum")[2]
    assert load_file(data / "weights/one/model.safetensors").keys() == body_state(made("small-cnn")).keys()
    _, error = bench(*command, "--out", "one", workspace=None, environment={"BENCH_DATA": str(data)}, code=2)
    assert "is there already" in error
    run = ("run", "--dataset", "digits(per_class=20,test_per_class=5)", "--protocol", "finetune", "--executor", "inline")
    out, _ = bench(*run, "--architecture", first["spec"], workspace=tmp_path / "space", environment={"BENCH_DATA": str(data)})
    assert "1 of 1 cells done" in out


@pytest.mark.parametrize(
    ("out", "protocol", "sentence"), [("../x", "fast", "is not the name of a folder"), ("x", "simclr", "trains without labels")]
)
def test_a_pretraining_that_cannot_be_is_refused_first(out, protocol, sentence):
    dataset = "digits(per_class=20,test_per_class=5)"
    _, error = call_bench("pretrain", "--dataset", dataset, "--out", out, "--protocol", protocol, workspace=None, code=2)
    assert sentence in error


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_the_layers_of_a_network_of_timm_hold_every_weight_once(name):
    """A weight in no layer would be trained though all layers are frozen."""
    net = made(f"timm(name={name})")
    held = [id(p) for layer in net.layers() for p in layer.parameters()]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    assert net.layers()[-1] is net.head


# Weights that others publish


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A stand-in for a publisher: a small network of timm as torch saves it, without counters, on a server of this test."""
    state = made("timm(name=resnet10t)").state_dict()
    bare = {key.removeprefix("net."): value for key, value in state.items() if "num_batches" not in key}
    folder = tmp_path / "publisher"
    folder.mkdir()
    file = folder / "resnet10t.pth"
    torch.save(bare, file)
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/resnet10t.pth"
        yield publish(monkeypatch, file, url)
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def publish(monkeypatch, file, url):
    """Put a file among the public weights, by the checksum that it has now."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    weights = PublicWeights("stand-in", url, sha256, file.stat().st_size, "resnet10t", "none", "this test")
    monkeypatch.setitem(PUBLIC, "stand-in", weights)
    return file


def test_public_weights_are_downloaded_verified_and_kept_as_what_a_spec_names(published, data):
    """The printed spec is the one that works; a copy of the file gives the same checksum; a second call downloads nothing."""
    spec = json.loads(call_bench("data", "get", "weights:stand-in", "--json", workspace=None)[0])["spec"]
    net = made(spec)
    bare = torch.load(published, weights_only=True)
    assert all(
        torch.equal(value, bare[key.removeprefix("net.")]) for key, value in body_state(net).items() if "batches" not in key
    )
    assert json.loads((data / "weights/stand-in/manifest.json").read_text())["sha256"] == PUBLIC["stand-in"].sha256
    copy = published.rename(data / "under another name")
    again, _ = call_bench("data", "get", "weights:stand-in", workspace=None)
    shutil.rmtree(data / "weights")
    _, error = call_bench("data", "get", "weights:stand-in", workspace=None, code=2)
    assert "cannot get weights stand-in from http://127.0.0.1" in error and "File not found; try again, or give a copy" in error
    given, _ = call_bench("data", "get", "weights:stand-in", "--from", str(copy), workspace=None)
    assert again.splitlines()[0] == given.splitlines()[0] == spec


class Trap:
    """A pickle that would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_file_with_another_checksum_is_never_opened(published, data, monkeypatch):
    """Nothing of it is unpickled, nor kept; not even what is longer by a byte."""
    monkeypatch.setattr(torch, "load", None)
    published.write_bytes(published.read_bytes() + b"0")
    _, error = call_bench("data", "get", "weights:stand-in", workspace=None, code=2)
    assert re.search(r"has the sha256 \w{64}, expected \w{64} of [\d,]+ bytes; nothing was kept", error)
    assert not (data / "weights").exists()


@pytest.mark.parametrize("content", ["trap", "list"])
def test_a_verified_file_that_is_no_weights_is_a_sentence_and_runs_nothing(content, published, data, tmp_path, monkeypatch):
    """The checksum says whose file it is; that its pickle is harmless is another question."""
    torch.save({"trap": Trap(tmp_path / "sprung"), "list": [1]}[content], published)
    publish(monkeypatch, published, PUBLIC["stand-in"].url)
    _, error = call_bench("data", "get", "weights:stand-in", workspace=None, code=2)
    assert "cannot be read as weights" in error or "holds list, expected tensors by name" in error
    assert not (tmp_path / "sprung").exists() and not (data / "weights/stand-in").exists()


def test_every_public_file_has_the_checksum_that_its_name_begins():
    """Torchvision writes the first eight digits of the sha256 into the name of the file."""
    for name, weights in PUBLIC.items():
        assert weights.sha256.startswith(weights.url.rpartition("-")[2].removesuffix(".pth")) and len(weights.sha256) == 64
        assert ARCHITECTURES.resolve(f"timm(name={weights.network},weights={name},checksum=sha-1)")
    _, error = call_bench("data", "get", "weights:resnet18-imagenet", workspace=None, code=2)
    assert "unknown public weights 'resnet18-imagenet'; did you mean 'resnet18-imagenet1k-v1'?" in error
