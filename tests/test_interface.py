"""Sets in Python: what `load`, `craft`, `purify` and `evaluate` give, keep and refuse."""

import doctest
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import call_bench, tiny

from unlearnable_bench import PoisonedSet, craft, evaluate, load, purify
from unlearnable_bench.benchmark import interface
from unlearnable_bench.registry import EntryError, MissingDataError
from unlearnable_bench.results import Records

DOCS = Path(__file__).parent.parent / "docs"
DIGITS = "digits(per_class=10,test_per_class=2)"
QUICK = {"protocol": "quick@0.1", "quiet": True}


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """Work in an empty folder, as a notebook does."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrays(n=40, side=16, seed=0):
    """Images as numpy and torchvision keep them, and labels of four classes."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8), np.arange(n) % 4


def test_the_examples_of_the_documentation_hold():
    results = doctest.testmod(interface)
    assert results.attempted > 10 and results.failed == 0


def test_the_page_says_what_happens():
    """Its examples in their order, as a reader types them."""
    text = (DOCS / "how-to/python.md").read_text()
    session = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    page = doctest.DocTestParser().get_doctest(session, {}, "python.md", None, None)
    assert len(page.examples) > 15
    assert doctest.DocTestRunner().run(page).failed == 0


def test_the_notebook_runs_and_shows_what_it_says(capsys, monkeypatch):
    """Cell by cell in one namespace, as a kernel does. Its poison must do what the text claims."""
    notebook = json.loads((DOCS / "notebooks/first-poison.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "outputs are not kept in the repository"
    names = {}
    for source in cells:
        exec(compile(source, "first-poison.ipynb", "exec"), names)  # noqa: S102  (a file of ours)
    clean, poisoned = map(float, re.findall(r"(\d+\.\d)%", capsys.readouterr().out))
    assert clean > 75 and poisoned < 45
    assert names["picture"].shape == (3 * 32, 10 * 32, 3)
    assert names["table"]["none"][0] == clean and names["table"][names["LSP"]][0] == poisoned


def test_a_loaded_set_is_the_poison_of_the_command(workspace):
    """One recipe, one set: whoever asks first makes it, and the other finds it."""
    train = load(DIGITS, attack="lsp", seed=3, quiet=True)
    out, _ = call_bench("craft", "lsp", "--dataset", DIGITS, "--seed", "3", workspace=workspace)
    assert "lsp on digits(per_class=10,test_per_class=2): found" in out
    clean = load(DIGITS, quiet=True)
    assert len(train) == len(clean) == 100 and torch.equal(train.labels, clean.labels)
    assert (train.images != clean.images).any() and train.classes == clean.classes
    assert torch.equal(load(DIGITS, attack="lsp", seed=3, ratio=0.0, quiet=True).images, clean.images)
    assert len(load(DIGITS, split="test")) == 20


def test_items_are_tensors_or_what_the_transform_makes_of_a_picture():
    """As in torchvision, with the index of the image beside it."""
    seen = []
    train = load(DIGITS, transform=lambda picture: seen.append(picture.size) or "seen", quiet=True)
    assert train[3] == ("seen", int(train.labels[3]), 3) and seen == [(32, 32)]
    plain = load(DIGITS, quiet=True)
    image, label, index = plain[-1]
    assert image.dtype == torch.float32 and image.max() <= 1 and index == 99 and label == int(plain.labels[99])
    batch = next(iter(torch.utils.data.DataLoader(plain, batch_size=5)))
    assert batch[0].shape == (5, 3, 32, 32) and batch[2].tolist() == [0, 1, 2, 3, 4]
    assert len(list(plain)) == 100, "a loop ends"
    gray = PoisonedSet(tiny(4, shape=(1, 8, 8)), transform=lambda picture: picture.mode)
    assert gray[0][0] == "L"


def test_a_purified_set_that_is_not_of_8_bits_reaches_the_transform_as_it_is():
    """Rounding would undo what the purifier kept."""
    content = tiny(4)
    exact = PoisonedSet(interface.replace(content, images=content.images.float() / 300), transform=lambda image: image.dtype)
    assert exact[0][0] == torch.float32


def test_evaluating_a_set_of_ours_leaves_the_record_of_the_command(workspace):
    """And finds it the next time; a purifier and a defense of the training make one chain."""
    purified = purify(load(DIGITS, attack="lsp", quiet=True), "jpeg(quality=10)", quiet=True)
    record = evaluate(purified, defense="cutout", **QUICK)
    assert record.cell.texts["defense"] == "jpeg+cutout" or record.cell.texts["defense"] == "jpeg(quality=10)+cutout"
    assert Records(workspace / "results/records").ids() == {record.id}
    chosen = ["--dataset", DIGITS, "--attack", "lsp", "--defense", "jpeg(quality=10)+cutout", "--protocol", "quick@0.1"]
    assert "1 of 1 cells done; nothing to run" in call_bench("run", *chosen, workspace=workspace)[0]
    assert evaluate(purified, defense="cutout", **QUICK).finished == record.finished, "not trained again"


def test_arrays_are_crafted_purified_and_judged_and_nothing_is_written(workspace):
    images, labels = arrays()
    poisoned = craft((images, labels), "lsp(patch=4,epsilon=2.0)", seed=1, quiet=True)
    noise = (poisoned.images.permute(0, 2, 3, 1).double().numpy() - images) / 255
    assert 0 < np.linalg.norm(noise.reshape(40, -1), axis=1).max() <= 2.0 + 0.15, "within the budget, but for rounding"
    same = craft((torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)), "lsp(patch=4,epsilon=2.0)", seed=1)
    assert torch.equal(same.images, poisoned.images), "the order of axes is told by the channels"
    assert (craft((images, labels), "lsp(patch=4,epsilon=2.0)", seed=2).images != poisoned.images).any()
    gray = purify(poisoned, "grayscale", quiet=True).images
    assert torch.equal(gray[:, 0], gray[:, 2])
    score = evaluate(poisoned, test=arrays(seed=5), defense="grayscale", **QUICK)
    again = evaluate(poisoned, test=arrays(seed=5), defense="grayscale", **QUICK)
    assert score.metrics == again.metrics and len(score.metrics.curve.shifts) == 4
    assert not list(workspace.iterdir())


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: load("cifar99"), EntryError, "unknown dataset 'cifar99'"),
        (lambda: load("cifar10"), MissingDataError, "dataset cifar10 is not at .*; `bench data get cifar10` gets it"),
        (lambda: load(DIGITS, ratio=2), EntryError, "ratio=2: expected a fraction from 0 to 1"),
        (lambda: load(DIGITS, defense="cutout"), EntryError, "cutout does nothing to images before training"),
        (lambda: load(DIGITS, defense="iss"), EntryError, "iss stands for .*; choose one of these"),
        (lambda: load(DIGITS, attack="lsp", split="test"), EntryError, "leave attack and defense out"),
        (lambda: craft(load(DIGITS, attack="lsp", quiet=True), "ops"), EntryError, "made by lsp and none already"),
        (lambda: craft("cifar10", "ops"), EntryError, "found str; expected a set that load gave, or \\(images, labels\\)"),
        (lambda: craft((arrays()[0] / 255, arrays()[1]), "ops"), EntryError, "found images torch.float64 .*; expected uint8"),
        (lambda: craft((arrays()[0], arrays()[1][:3]), "ops"), EntryError, r"labels torch.int64 \(3,\); expected"),
        (lambda: craft((arrays(side=3)[0], arrays()[1]), "ops"), EntryError, "whose channels cannot be told"),
        (lambda: craft(arrays(), "deepconfuse"), EntryError, "vgg11 needs images of 32x32 or larger, not 16x16"),
        (lambda: purify(arrays(), "jpeg+eclipse"), EntryError, "eclipse needs images that are known to be clean"),
        (lambda: evaluate(arrays(), test=arrays(), defense="frozen-blocks"), EntryError, "frozen-blocks needs images that are"),
        (lambda: evaluate(arrays()), EntryError, "test is missing"),
        (lambda: evaluate(arrays(), test=arrays(side=8)), EntryError, r"found test images \(3, 8, 8\)"),
        (lambda: evaluate(load(DIGITS, quiet=True), test=arrays()), EntryError, "has a test set of its own"),
        (lambda: evaluate(load(DIGITS, quiet=True), architecture="vit-lfu(patch=5)", **QUICK), EntryError, "patch"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
