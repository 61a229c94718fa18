"""What must hold for every input: properties of items, tables, plans, records, sets of the store, imported files and pages."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import struct
import warnings
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import as_data, recipe, tiny
from hypothesis import strategies as st
from tables import with_fields

from campaign import Tally, explore, sentence
from unlearnable_bench.benchmark import grid as grids
from unlearnable_bench.benchmark.plan import plan_cells
from unlearnable_bench.poisons.imports import import_poison
from unlearnable_bench.poisons.options import ImportOptions
from unlearnable_bench.poisons.recipe import PurifiedRecipe
from unlearnable_bench.poisons.store import CraftError, DamagedError, Store, verify_set
from unlearnable_bench.registry import ATTACKS, DEFENSES, EntryError, resolve
from unlearnable_bench.registry.spec import parse, write_spec
from unlearnable_bench.results import Cell, FileError, Grid, Record, Records, TableFile, read_grid
from unlearnable_bench.results.cell import Part
from unlearnable_bench.results.record import Curve, Failure, Metrics, PoisonNote
from unlearnable_bench.results.reference import PAPERS
from unlearnable_bench.results.table_file import TABLES

REFUSALS = (EntryError, FileError, CraftError, DamagedError)
NASTY = "()+=,@/\\.:-_ \n\t\0\"'<>&%{}[]é中\u202e\x7f"
texts = st.text(alphabet=st.sampled_from(NASTY) | st.characters(codec="utf-8"), max_size=40)


def harmed(content: bytes, draw: random.Random) -> bytes:
    """One change of some bytes: a bit, a cut, a hole of zeros, bytes put in, a part twice, or a changed end."""
    if not content:
        return bytes(draw.randrange(1, 9))
    place = draw.randrange(len(content))
    how = draw.choice(("bit", "bit", "cut", "zeros", "insert", "twice", "tail"))
    if how == "bit":
        return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]
    if how == "cut":
        return content[:place]
    if how == "zeros":
        return content[:place] + bytes(len(content[place : place + 64])) + content[place + 64 :]
    if how == "insert":
        return content[:place] + draw.randbytes(draw.randrange(1, 9)) + content[place:]
    if how == "twice":
        return content[:place] + content[place // 2 :]
    return content[:-1] + bytes([content[-1] ^ 0xFF])


# Items, tables, plans


def items(folder: Path, count: int) -> Tally:
    """Any text as an item of any kind: read, or refused in a sentence; what resolves reads back as itself."""
    known = [name for catalog in (ATTACKS, DEFENSES) for name in catalog]
    fields = st.sampled_from(["epsilon", "kind", "seed", "quality", "steps", "norm", "x"])
    values = (
        st.integers(-5, 300).map(str) | st.sampled_from(["8/255", "1/0", "nan", "true", "l2", "class", "1e999", ""]) | texts
    )
    written = st.builds(lambda n, f, v: f"{n}({f}={v})", st.sampled_from(known), fields, values)
    chains = st.lists(st.sampled_from(known) | written, min_size=1, max_size=3).map("+".join)
    tally = Tally()

    def law(text: str, kind: str) -> str:
        try:
            parts = resolve(kind, text)
        except EntryError as error:
            return sentence(error)
        again = resolve(kind, "+".join(part.text for part in parts))
        assert [(part.name, part.fields) for part in again] == [(part.name, part.fields) for part in parts], text
        for part in parse(text):
            assert parse(write_spec(part.name, part.given))[0].given == part.given
        return "resolved, and back"

    kinds = st.sampled_from(["attacks", "defenses", "protocols", "architectures", "datasets"])
    explore(tally, count, law, text=texts | written | chains, kind=kinds)
    return tally


def tables(folder: Path, count: int) -> Tally:
    """Table files with a byte, a word or a line changed, and random TOML: read, or refused in a sentence."""
    tally, draw = Tally(), random.Random(6)
    shipped = sorted([*TABLES.glob("*.toml"), *PAPERS.glob("*/table-*.toml")])
    words = [
        "title",
        "attack",
        "seed",
        "rows",
        "cell",
        "= [",
        "]",
        '"lsp"',
        "true",
        "1e9",
        "-1",
        "{",
        "}",
        "'",
        "[[cell]]",
        "at",
    ]
    for number in range(count):
        source = shipped[number % len(shipped)]
        path = folder / f"{number % 50}.toml"
        lines = source.read_text(encoding="utf-8").splitlines()
        if number % 3 == 0:
            path.write_bytes(harmed(source.read_bytes(), draw))
        elif number % 3 == 1:
            place = draw.randrange(len(lines))
            lines[place] = draw.choice(
                (lines[draw.randrange(len(lines))], draw.choice(words), lines[place] + draw.choice(words))
            )
            path.write_text("\n".join(lines))
        else:
            path.write_text("\n".join(" ".join(draw.choices(words, k=draw.randrange(1, 6))) for _ in range(6)))
        beside = source.with_suffix(".csv")
        if beside.exists():
            shutil.copy(beside, path.with_suffix(".csv"))
        else:
            path.with_suffix(".csv").unlink(missing_ok=True)
        try:
            grids.expand(read_grid(str(path)))
            tally.end("read")
        except REFUSALS as error:
            try:
                tally.end(sentence(error))
            except AssertionError as wrong:
                tally.bad(f"{source.name}: {wrong}")
        except Exception as error:
            tally.bad(f"{source.name}: {type(error).__name__} {error}"[:300])
    return tally


AXES = {
    "attack": ["none", "lsp", "lsp(patch=4)", "ops", "random-noise(kind=class)", "ar"],
    "defense": ["none", "jpeg", "bdr(bits=2)", "cutout", "jpeg+cutout", "grayscale"],
    "seed": [0, 1, 2, 7],
    "ratio": [0.25, 0.5, 1.0],
}


def plans(folder: Path, count: int) -> Tally:
    """More values on an axis change no other cell; a limit keeps the first; a selector what it names; no cell comes twice."""
    tally = Tally()
    records = Records(folder)
    axes = {axis: st.lists(st.sampled_from(list(pool)), min_size=1, max_size=3, unique=True) for axis, pool in AXES.items()}

    def law(axis: str, limit: int, more: dict[str, list[Any]], **chosen: Any) -> str:
        base = {"title": "t", "protocol": "quick", "dataset": "digits", "architecture": "small-cnn"}
        table = TableFile(**base, **chosen)
        grown = Grid.of(with_fields(table, **{axis: list(dict.fromkeys([*chosen[axis], *more[axis]]))}))
        cells, _ = grids.expand(Grid.of(table))
        all_cells, _ = grids.expand(grown)
        ids = [cell.id for cell in cells]
        assert len(set(ids)) == len(ids) and set(ids) <= {cell.id for cell in all_cells}
        whole = plan_cells("t", cells, {}, records)
        few = plan_cells("t", cells, {}, records)
        few.keep(limit)
        assert [t.cell.id for t in few.to_run] == [t.cell.id for t in whole.to_run][:limit]
        assert few.counts()["cells"] == len(cells) == sum(few.counts()[key] for key in ("done", "missing", "not_applicable"))
        kept = grids.select(grown, {axis: [str(one) for one in chosen[axis]]})
        found = grids.expand(kept)[0]
        assert set(ids) <= {cell.id for cell in found} <= {cell.id for cell in all_cells}
        named = {f"{one:g}" if isinstance(one, float) else str(one).partition("(")[0] for one in chosen[axis]}
        assert all(cell.texts[axis].partition("(")[0] in named for cell in found)  # `lsp` keeps `lsp(patch=4)` too
        return "planned"

    strategies = {**axes, "more": st.fixed_dictionaries(axes), "axis": st.sampled_from(list(AXES)), "limit": st.integers(1, 9)}
    explore(tally, count, law, **strategies)
    return tally


# Records


def a_record(**changes: Any) -> Record:
    """A record of a cell of the quick grid."""
    cell = grids.expand(read_grid("quick"))[0][9]
    curve = Curve(train_acc=[0.25, 0.5], train_loss=[2.0, 1.0], test_acc=[0.25, 0.5], test_loss=[2.0, 1.5])
    note = PoisonNote(checksum="ab" * 32, norm="linf", spent=8 / 255, allowed=8 / 255)
    fields: dict[str, Any] = {"metrics": Metrics(test_acc=0.5, test_acc_best=0.5, curve=curve), "poison": note}
    return Record(**{"id": cell.id, "cell": cell, "seconds": {"train": 1.5}} | fields | changes)


def cut_records(folder: Path, count: int) -> Tally:
    """A record, a failure and the memory of records cut at every length: named in a sentence, or read from the records."""
    tally, record = Tally(), a_record()
    records = Records(folder)
    records.write(record)
    records.fail(Failure(id=record.id, cell=record.cell, kind="killed", message="m"))
    before = records.summaries()
    files = {
        records.path(record.id): lambda: records.read(record.id),
        records.failure_path(record.id): lambda: list(records.failures()),
        folder / ".briefs": records.summaries,
    }
    for path, read in files.items():
        content = path.read_bytes()
        for length in range(0, len(content) - 1, max(1, len(content) * len(files) // count)):
            path.write_bytes(content[:length])
            try:
                found = read()
                tally.end("made anew")
                if path.name != ".briefs" or found != before:
                    tally.bad(f"{path.name} cut at {length} was taken for whole")
            except FileError as error:
                tally.end(sentence(error))
            except Exception as error:
                tally.bad(f"{path.name} cut at {length}: {type(error).__name__} {error}"[:300])
        path.write_bytes(content)
    return tally


def harmed_records(folder: Path, count: int) -> Tally:
    """The same files with bits and bytes changed: a record that is valid as it stands, or one sentence; never a traceback."""
    tally, record, draw = Tally(), a_record(), random.Random(7)
    records = Records(folder)
    records.write(record)
    records.fail(Failure(id=record.id, cell=record.cell, kind="killed", message="m"))
    records.summaries()
    paths = [records.path(record.id), records.failure_path(record.id), folder / ".briefs"]
    contents = {path: path.read_bytes() for path in paths}
    for number in range(count):
        path = paths[number % 3]
        path.write_bytes(harmed(contents[path], draw))
        for read in (lambda: records.read(record.id), lambda: list(records.failures()), records.summaries):
            try:
                read()
                tally.end("valid as it stands")
            except FileError as error:
                tally.end(sentence(error))
            except Exception as error:
                tally.bad(f"{path.name}: {type(error).__name__} {error}"[:300])
        for name, content in contents.items():
            name.write_bytes(content)
    return tally


# The store


def damaged_sets(folder: Path, count: int) -> Tally:
    """A bit, a cut or a hole in any file of a poison or a purified set: noticed, set aside, made again to the same bytes."""
    tally, draw, data = Tally(), random.Random(8), as_data(tiny(16))
    lsp, ar = recipe("lsp"), recipe("ar")
    purified = PurifiedRecipe(recipe("lsp"), 1.0, "all", resolve("defenses", "ortho-proj(epochs=1)"), 0)
    store = Store(folder / "cache")
    makers = {
        lsp.folder: lambda: store.poison(lsp, data),
        ar.folder: lambda: store.poison(ar, data),
        purified.folder: lambda: store.purified(purified, data),
    }
    clean = {name: make().checksum for name, make in makers.items()}
    whole = folder / "whole"
    shutil.copytree(store.root, whole)
    files = sorted(path.relative_to(whole) for name in makers for path in (whole / name).iterdir())
    for number in range(count):
        place = files[number % len(files)]
        content = (whole / place).read_bytes()
        changed = harmed(content, draw)
        if changed == content:
            continue
        (store.root / place).write_bytes(changed)
        name = place.parts[0]
        try:
            verify_set(store.root / name)
            same = equal(whole / place, store.root / place)
            tally.end("the same set, written otherwise" if same else "not noticed")
            if not same:
                tally.bad(f"{place} changed and was not noticed")
                shutil.copy(whole / place, store.root / place)
                continue
        except DamagedError as error:
            tally.end(sentence(error))
        except Exception as error:
            tally.end("traceback")
            tally.bad(f"{place}: {type(error).__name__} {error}"[:300])
            shutil.copy(whole / place, store.root / place)
            continue
        kept = makers[name]()
        if kept.checksum != clean[name]:
            tally.bad(f"{place}: made again with other bytes")
        for aside in store.root.glob("*.damaged-*"):
            shutil.rmtree(aside)
    return tally


def equal(one: Path, other: Path) -> bool:
    """Whether two files say the same: JSON or arrays may be written in several ways."""
    if one.suffix == ".json":
        found = [json.loads(path.read_text()) for path in (one, other)]
        return bool(found[0] == found[1] or {k: v for k, v in found[0].items() if k != "seal"} in found)
    first, second = (np.load(path, allow_pickle=False) for path in (one, other))
    return bool(first.dtype == second.dtype and np.array_equal(first, second))


# Imported files


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.command = f"mkdir -p '{path}'"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (self.command,)


def bombs(folder: Path, ran: Path) -> list[Path]:
    """Files that run a command if anything in them is unpickled: one for every slot that a pickle fits into."""
    bomb, made = Bomb(ran), []
    pickled = pickle.dumps(bomb)
    for name in ("x.pkl", "x.pickle", "x.npy", "x.pt", "x.pth", "x.npz", "x.zip"):
        (folder / f"raw-{name}").write_bytes(pickled)
        made.append(folder / f"raw-{name}")
    np.save(folder / "object.npy", np.array([bomb], object), allow_pickle=True)
    for key in ("images", "labels", "x", "arr_0"):
        np.savez(folder / f"{key}.npz", **{key: np.array([bomb], object)})
        made.append(folder / f"{key}.npz")
    clean = torch.zeros(16, 3, 32, 32)
    slots: dict[str, Any] = {
        "alone": bomb,
        "list": [clean, bomb],
        "tuple": (clean, bomb),
        "first": (bomb, clean),
        "dict": {"noise": clean, "more": bomb},
        "key": {"model": {"delta": clean}, "opt": bomb},
        "deep": [[[{"a": (1, [bomb])}]]],
    }
    for name, content in slots.items():
        for new in (True, False):
            path = folder / f"{name}-{new}.pt"
            torch.save(content, path, _use_new_zipfile_serialization=new)
            made.append(path)
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    evil = f"{{'descr': '|O', 'fortran_order': False, 'shape': (1,), }}{'':64}"[:117].ljust(117) + "\n"
    (folder / "header.npy").write_bytes(header + evil.encode() + pickled)
    code = f"{{'descr': __import__('os').system(\"mkdir -p '{ran}'\")}}".ljust(117)[:117] + "\n"
    (folder / "code.npy").write_bytes(header + code.encode())
    return [*made, folder / "object.npy", folder / "header.npy", folder / "code.npy"]


def claims(folder: Path) -> list[Path]:
    """Small files that stand for a billion images by strides of 0, and arrays of what is no real number."""
    one, noise = torch.zeros(1), torch.zeros(24, 3, 32, 32)
    torch.save(one.expand(10**9, 3, 32, 32), folder / "rows.pt")
    torch.save((noise, one.expand(10**10)), folder / "labels.pt")
    torch.save({"dconv_down1.0.weight": one.expand(4096, 3, 3, 3)}, folder / "weights.pt")
    torch.save({"model": {"delta": one.expand(24, 3, 32, 32)}}, folder / "delta.pt")
    for kind in ("U3", "M8[s]", "f4,i4", "V4", "c8", "?"):
        np.savez(folder / f"kind-{kind[0]}.npz", images=np.zeros(noise.shape, kind))
    return sorted(folder.iterdir())


def imports(folder: Path, count: int) -> Tally:
    """Files of authors harmed at random, pickles in every slot, claims: taken, or one sentence; nothing is run."""
    from test_import import FILES, smooth

    tally, draw, ran = Tally(), random.Random(9), folder / "ran"
    clean = as_data(smooth(24, 4))
    dataset = resolve("datasets", "digits")[0]
    store = Store(folder / "cache")
    sources: list[tuple[Path, dict[str, Any]]] = []
    for number, (make, options) in enumerate(FILES.values()):
        place = folder / f"source-{number}"
        place.mkdir()
        sources.append((make(place, clean), options))
    radius = {"norm": "linf", "epsilon": 8 / 255}
    shots: list[tuple[Path, dict[str, Any]]] = []
    armed = folder / "bombs"
    armed.mkdir()
    shots += [(path, {}) for path in bombs(armed, ran)]
    claiming = folder / "claims"
    claiming.mkdir()
    shots += [(path, {}) for path in claims(claiming)]
    before = set(folder.iterdir())
    for number in range(count + len(shots)):
        if number < len(shots):
            path, options = shots[number]
        else:
            source, options = sources[number % len(sources)]
            path = folder / "harmed" / source.name
            shutil.rmtree(path.parent, ignore_errors=True)
            if source.is_dir():
                shutil.copytree(source, path)
                one = draw.choice(sorted(p for p in path.rglob("*") if p.is_file()))
                one.write_bytes(harmed(one.read_bytes(), draw))
            else:
                path.parent.mkdir()
                content = source.read_bytes()
                for _ in range(draw.choice((1, 1, 3))):
                    content = harmed(content, draw)
                path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import_poison(store, path, dataset, clean, ImportOptions(**radius | options), "", "")
            tally.end("taken: the change left a poison within its budget")
            if number < len(shots):
                tally.bad(f"{path.name} was taken")
        except REFUSALS as error:
            try:
                tally.end(sentence(error))
            except AssertionError as wrong:
                tally.bad(f"{path.name}: {wrong}"[:300])
        except Exception as error:
            tally.end("traceback")
            tally.bad(f"{path.name}: {type(error).__name__} {error}"[:300])
        if ran.exists():
            tally.bad(f"{path.name} ran a command")
            ran.rmdir()
    new = {path.name for path in set(folder.iterdir()) - before} - {"cache", "harmed"}
    if new or list(store.root.glob(".import-*")):
        tally.bad(f"files were left behind: {sorted(new)}")
    return tally


def archives(folder: Path, count: int) -> Tally:
    """Zip files whose members have hostile names: nothing outside, one sentence or a poison."""
    from test_import import png, smooth

    tally, draw = Tally(), random.Random(10)
    clean = as_data(smooth(8, 4))
    images = (clean.train.images.int() + torch.randint(-8, 9, (8, 3, 32, 32))).clamp(0, 255).to(torch.uint8)
    store, dataset = Store(folder / "deep" / "cache"), resolve("datasets", "digits")[0]
    pieces = [
        "..",
        ".",
        "",
        "a",
        "C:",
        "con",
        "~",
        "\\",
        "/",
        "data",
        "\x00",
        "é",
        "a" * 200,
        "$(touch x)",
        "`x`",
        "-rf",
        "%2e%2e",
    ]
    store.root.mkdir(parents=True)
    for _ in range(count):
        path = folder / "deep" / "x.zip"
        prefix = "/".join(draw.choices(pieces, k=draw.randrange(0, 5)))
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
            warnings.simplefilter("ignore")
            for row, image in enumerate(images):
                info = zipfile.ZipInfo("x")
                info.filename = f"{prefix}/{row}.png" if prefix else f"{row}.png"
                info.external_attr = draw.choice((0, 0o120777 << 16, 0o100644 << 16, 0o40755 << 16))
                archive.writestr(info, png(image))
        before = everything(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import_poison(store, path, dataset, clean, ImportOptions("images", norm="linf", epsilon=8 / 255), "", "")
            tally.end("taken")
        except REFUSALS as error:
            try:
                tally.end(sentence(error))
            except AssertionError as wrong:
                tally.bad(f"{prefix!r}: {wrong}"[:300])
        except Exception as error:
            tally.end("traceback")
            tally.bad(f"{prefix!r}: {type(error).__name__} {error}"[:300])
        if strange := {one for one in everything(folder) - before if store.root not in one.parents}:
            tally.bad(f"{prefix!r} made {sorted(map(str, strange))[:3]}")
    return tally


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


# Pages


class Seen(HTMLParser):
    """What a page would do: its elements, handlers of events, and where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [key for key, _ in attributes if key.startswith("on") or key == "style"]
        self.links += [text or "" for key, text in attributes if key in ("href", "src", "action", "srcset", "data")]


PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "\u202egnp.exe",
    "{{ 7*7 }}",
    "{% raw %}",
    "| a | b |\n|---|",
    "=cmd|' /C calc'!A0",
    "\\input{/etc/passwd}",
)


def pages(folder: Path, count: int) -> Tally:
    """Records with hostile words in every free field: pages valid by the standard's parser, nothing in them runs or loads."""
    import html5lib

    from unlearnable_bench.leaderboard.formats import text as formats
    from unlearnable_bench.leaderboard.pages import site as pages_
    from unlearnable_bench.leaderboard.tables.measured import other_tables

    tally = Tally()
    payload = st.sampled_from(PAYLOADS) | texts | st.builds(lambda a, b: a + b, st.sampled_from(PAYLOADS), texts)
    base = a_record().cell

    def law(words: list[str]) -> str:
        drawn = iter(words * 3)
        place = folder / "records"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        records = Records(place)
        for number in range(3):

            def word() -> str:
                return next(drawn)

            part = Part(name=word() or "x", fields={"epsilon": word()}, text=word())
            cell = Cell(**{**base.model_dump(), "seed": number, ("attack", "defense")[number % 2]: (part,)})
            if number == 2:
                records.fail(Failure(id=cell.id, cell=cell, kind=word(), message=word(), log=word()))
                continue
            fields = {key: word() for key in ("device", "tree", "commit", "command", "finished", "dataset_fingerprint")}
            note = PoisonNote(checksum=word(), norm=word(), spent=0.1)
            fields |= {"versions": {word(): word()}, "numerics": {word(): word()}, "recipe": {word(): word()}, "poison": note}
            records.write(a_record(id=cell.id, cell=cell, **fields))
        boards = other_tables(records, set())
        made = pages_.Site(boards).files()
        for name, page in made.items():
            if name.endswith(".html"):
                seen = Seen(page)
                parser = html5lib.HTMLParser()
                parser.parse(page)
                assert not parser.errors, (name, parser.errors[:2])
                strange = seen.tags & {"img", "iframe", "object", "b"}
                assert not seen.handlers and not strange, (name, seen.handlers[:3], strange)
                assert not any(link.lower().startswith(("javascript:", "data:text", "//")) for link in seen.links), name
                assert page.count("<script") <= 2 + page.count('<script type="application/json"'), name
        for one in boards:
            for form in formats.FORMATS.values():
                form(one)
        return "rendered whole"

    explore(tally, count, law, words=st.lists(payload, min_size=30, max_size=30))
    return tally
