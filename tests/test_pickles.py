"""Pickles of authors: plain data is read, every other operation and name is refused, and nothing is ever executed."""

import collections
import functools
import json
import os
import pickle
import pickletools
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import call_bench

from unlearnable_bench.poisons import pickles
from unlearnable_bench.poisons.pickles import CALLS, FOLLOWED, read_pickle, read_pickled
from unlearnable_bench.registry import EntryError

LIMIT = 1 << 20
NOISE = np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32)
LEVELS = np.random.default_rng(1).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(6) % 4

KINDS = {  # what six groups of authors publish, and how it is read
    "noise of REM and SEM": (NOISE, NOISE, None),
    "columns first": (np.asfortranarray(NOISE), NOISE, None),
    "another order of bytes": (NOISE.astype(">f8"), NOISE, None),
    "images and labels": ((LEVELS, LABELS), LEVELS, LABELS),
    "images and a list": ([LEVELS, LABELS.tolist()], LEVELS, LABELS),
    "pairs of DUNE": ([(image, int(label)) for image, label in zip(LEVELS, LABELS, strict=True)], LEVELS, LABELS),
    "pairs with numbers of numpy": (list(zip(LEVELS, LABELS, strict=True)), LEVELS, LABELS),
    "a list of images": (list(LEVELS), LEVELS, None),
    "a dictionary": ({"data": LEVELS, "targets": LABELS.tolist()}, LEVELS, LABELS),
    "a tensor": (torch.from_numpy(NOISE), NOISE, None),
    "part of a tensor": (torch.from_numpy(np.concatenate([NOISE, NOISE]))[6:], NOISE, None),
    "tensors of a list": (list(torch.from_numpy(NOISE)), NOISE, None),
    "half precision": (torch.from_numpy(NOISE).half(), NOISE.astype(np.float16).astype(np.float32), None),
}


@pytest.fixture
def kept(tmp_path):
    """Write a pickle, or the bytes of one."""

    def keep(content, protocol=4):
        path = tmp_path / "poison.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
        return path

    return keep


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", KINDS)
def test_what_authors_publish_is_read(kind, protocol, kept):
    content, images, labels = KINDS[kind]
    found = read_pickle(kept(content, protocol), LIMIT)
    assert found.array.dtype.kind == images.dtype.kind and np.array_equal(found.array, images)
    assert (found.labels is None) if labels is None else np.array_equal(found.labels, labels)


def test_what_python_2_wrote_is_read(kept):
    """Its bytes are text to a later Python. (Of its protocol 0, `pickletools` takes no bytes above 127.)"""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nI2\nt"
    kind = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
    state = b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nT\x04\x00\x00\x00\x00\xff\x07\x80tb."
    assert read_pickled(kept(array + kind + state)).tolist() == [[0, 255], [7, 128]]


# What is refused


class Calls:
    """Pickles as a call of something."""

    def __init__(self, function, *given):
        self.reduced = function, given

    def __reduce__(self):
        return self.reduced


TWO = torch.storage.TypedStorage(2, dtype=torch.float32, _internal=True)
STRANGERS = {
    "a command": Calls(os.system, "touch ran"),
    "a folder": Calls(os.mkdir, "ran"),
    "source": Calls(eval, "open('ran', 'w')"),
    "a partial": functools.partial(os.mkdir, "ran"),
    "another pickle": Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, "ran"))),
    "an attribute": Calls(getattr, "text", "format"),
    "torch.load": Calls(torch.load, "somewhere.pt"),
    "numpy.load": Calls(np.load, "somewhere.npy", None, True),
    "a class of ours": Calls(Path, "ran"),
    "a set": {1, 2},
    "a complex number": 1j,
    "a slice": slice(3),
    "a counter": collections.Counter("ab"),
    "filled in order": collections.OrderedDict([(1, Calls(os.mkdir, "ran"))]),
    "objects": np.array([1, "a", None], object),
    "texts": np.array(["a", "b"]),
    "dates": np.array(["2026-01-01"], "datetime64[D]"),
    "fields": np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "tensors of bits": Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.mkdir, "ran"))),
    "no storage": Calls(torch.storage._load_from_bytes, b"nothing"),
    "strides": Calls(
        torch._utils._rebuild_tensor_v2,
        torch.storage.TypedStorage(2, dtype=torch.float32, _internal=True),
        0,
        (1 << 30, 2),
        (0, 0),
        False,
        {},
    ),
    "a huge number": 1 << 70,
    "a key of bytes": {b"data": 1},
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_everything_else_is_refused_and_nothing_runs(stranger, protocol, kept, tmp_path, monkeypatch):
    """In every protocol, at the top and inside of a list, and after what would have been read."""
    monkeypatch.chdir(tmp_path)
    for content in (STRANGERS[stranger], [NOISE, STRANGERS[stranger]], {"data": NOISE, "more": [STRANGERS[stranger]]}):
        with pytest.raises(EntryError, match="is not read, since it holds more than arrays"):
            read_pickled(kept(content, protocol))
    assert [one.name for one in tmp_path.iterdir()] == ["poison.pkl"]


EXAMPLES = {"": b"", "uint1": b"\x01", "uint2": b"\x01\x00", "int4": b"\x01\x00\x00\x00", "stringnl_noescape": b"a\n"}
EXAMPLES["stringnl_noescape_pair"] = b"os\nsystem\n"


@pytest.mark.parametrize(
    "operation", [one for one in pickletools.opcodes if one.name not in {*FOLLOWED, "STOP"}], ids=lambda one: one.name
)
def test_every_operation_that_is_not_on_the_list_is_refused(operation, kept):
    """Those of objects, of sets, of extensions and of buffers out of the file."""
    argument = EXAMPLES[operation.arg.name if operation.arg else ""]
    content = b"\x80\x05]](" + operation.code.encode("latin1") + argument + b"."
    with pytest.raises(EntryError, match=f"the operation {operation.name}$"):
        read_pickled(kept(content))


def test_the_list_is_as_short_as_it_was_when_it_was_looked_at():
    """A longer one is a decision; docs/explanation/decisions says which."""
    assert len(FOLLOWED) == 53 and FOLLOWED.keys() <= {one.name for one in pickletools.opcodes}
    assert len(CALLS) == 11
    assert not FOLLOWED.keys() & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}


def test_small_files_claim_little(kept, monkeypatch):
    """Lists of lists that refer to each other, sizes that the file does not have, numbers without end."""
    thousand = b"(" + b"h\x00" * 1000 + b"l"
    nested = b"K\x01q\x00" + thousand + b"q\x00" + thousand + b"q\x00" + thousand + b"q\x00" + thousand + b"."
    found = read_pickled(kept(nested))
    assert len(found) == len(found[0]) == 1000 and found[0][0] is found[999][999], "one list, not a million copies"
    itself = []
    itself.append(itself)
    assert read_pickled(kept(itself)) is not None
    again = [LEVELS[0]] * 50_000
    with pytest.raises(EntryError, match="holds 2,400,000 bytes of arrays, more than these images can need"):
        read_pickle(kept(again), LIMIT)
    for claim in (b"B\xff\xff\xff\x7f", b"\x8e" + struct.pack("<Q", 1 << 62), b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f"):
        with pytest.raises(EntryError, match="not a whole pickle"):
            read_pickled(kept(b"\x80\x04" + claim + b"abc."))
    with pytest.raises(EntryError, match="not a whole pickle"):
        read_pickled(kept(b"I" + b"9" * 5000 + b"\n."))
    with pytest.raises(EntryError, match="open at once"):
        read_pickled(kept(b"(" * 2000 + b"."))
    monkeypatch.setattr(pickles, "OPERATIONS", 100)
    with pytest.raises(EntryError, match="more than 100 operations"):
        read_pickled(kept(list(range(200))))
    monkeypatch.setattr(pickles, "KEPT", 10)
    with pytest.raises(EntryError, match="more than 10 objects that are referred back to"):
        read_pickled(kept([[] for _ in range(20)]))


def test_ten_thousand_harmed_files_are_read_or_refused(tmp_path):
    """Bytes changed, cut, doubled, and pieces of one pickle in another: an array, or one sentence."""
    draw = random.Random(0)
    whole = [pickle.dumps(content, protocol) for content, _, _ in KINDS.values() for protocol in (0, 2, 4, 5)]
    whole += [pickle.dumps(one, 2) for one in STRANGERS.values()]
    path, outcomes = tmp_path / "harmed.pkl", collections.Counter()
    for _ in range(10_000):
        harmed = bytearray(draw.choice(whole))
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(max(1, min(len(harmed), draw.choice([40, 200, len(harmed)]))))
            match draw.randrange(5):
                case 0:
                    harmed[place : place + 1] = bytes([draw.randrange(256)])
                case 1:
                    del harmed[place:]
                case 2:
                    harmed[place:place] = draw.choice(whole)[:40]
                case 3:
                    harmed[place:place] = draw.choice(pickletools.opcodes).code.encode("latin1")
                case 4:
                    del harmed[place : place + draw.randint(1, 8)]
        path.write_bytes(bytes(harmed) or b".")
        try:
            read_pickle(path, LIMIT).check(path)
            outcomes["read"] += 1
        except EntryError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes["read"] > 100 and outcomes["refused"] > 5000, outcomes


# The commands


def test_a_pickle_is_converted_and_imported(kept, tmp_path):
    """And what is converted is what is imported."""
    path = kept((LEVELS, LABELS))
    out, _ = call_bench("poisons", "convert", str(path), "--to", str(tmp_path / "out/poison.npz"))
    assert "images    uint8 (6, 4, 4, 3)" in out and "labels    int64 (6,)" in out
    with np.load(tmp_path / "out/poison.npz") as archive:
        assert np.array_equal(archive["images"], LEVELS) and np.array_equal(archive["labels"], LABELS)
    shown = json.loads(call_bench("poisons", "convert", str(path), "--to", str(tmp_path / "two.npz"), "--json")[0])
    assert shown["arrays"]["images"] == {"shape": [6, 4, 4, 3], "type": "uint8"}
    noise = np.full((200, 3, 32, 32), 4 / 255, np.float32)
    dataset = "digits(per_class=20,test_per_class=5)"
    options = ["--dataset", dataset, "--norm", "linf", "--epsilon", "8/255", "--json"]
    imported = json.loads(call_bench("poisons", "import", str(kept(noise)), *options, workspace=tmp_path / "space")[0])
    assert imported["source"]["format"] == "pickle" and round(255 * imported["budget"]["spent"]) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["missing.pkl", "--to", "a.npz"], 2, "there is no file missing.pkl"),
        (["there.pkl", "--to", "a.npy"], 2, "expected a name that ends in .npz"),
        (["there.pkl", "--to", "there.npz"], 2, "there.npz exists; choose another name"),
        (["there.pkl", "--to", "a.npz"], 2, "'os.system'|'posix.system'"),
        (["empty.pkl", "--to", "a.npz"], 2, "is not a whole pickle"),
        (["word.pkl", "--to", "a.npz"], 2, "holds a str that is no poison; expected an array"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(arguments, code, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there.pkl").write_bytes(pickle.dumps(STRANGERS["a command"]))
    Path("word.pkl").write_bytes(pickle.dumps("poison"))
    Path("empty.pkl").touch()
    Path("there.npz").touch()
    error = " ".join(call_bench("poisons", "convert", *arguments, code=code)[1].split())
    assert any(one in error for one in sentence.split("|")), error
    assert not Path("a.npz").exists() and not Path("ran").exists()
