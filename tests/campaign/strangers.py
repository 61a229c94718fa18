"""What strangers send: bundles, files that unpack to gigabytes, names meant for a browser; and records changed by hand."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from campaign import ROOT, Tally, commanded, sentence, told
from campaign.laws import PAYLOADS, Bomb, Seen, a_record, harmed
from unlearnable_bench.registry.data import load
from unlearnable_bench.results import FileError, Records, bundle

# Records


def leaves(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to every figure and text of a JSON value."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in leaves(one, (*way, key))]
    if isinstance(value, list):
        return [found for place, one in enumerate(value) for found in leaves(one, (*way, place))]
    return [way]


def at(value: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


def put(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with something else in one place."""
    copy = json.loads(json.dumps(value))
    at(copy, way[:-1])[way[-1]] = new
    return copy


def _other(old: Any, draw: random.Random) -> Any:
    """What a hand or a bit might make of a value: of its kind, and another."""
    if isinstance(old, bool) or old is None:
        return not old
    if isinstance(old, int | float):
        return draw.choice((old + 1, old + 0.0625, old * 2 + 1, -old - 1))
    return draw.choice((f"{old}x", old[1:] or "y", old.swapcase() if old.swapcase() != old else f"{old} "))


def edited_records(folder: Path, count: int) -> Tally:
    """One figure or text of a record changed by hand, or a record of a newer program: noticed, and nothing is removed."""
    tally, draw = Tally(), random.Random(11)
    records, record = Records(folder), a_record()
    records.write(record)
    path = records.path(record.id)
    content = json.loads(path.read_text())
    ways, alone = leaves(content), 0
    for number in range(count):
        newer = number % 10 == 0
        way = ("format",) if newer else draw.choice(ways)
        changed = put(content, way, draw.randrange(2, 99) if newer else _other(at(content, way), draw))
        if newer and number % 20:
            changed["colour"] = "of a newer program"
        path.write_text(json.dumps(changed, indent=1, sort_keys=True) + "\n")
        (folder / ".briefs").unlink(missing_ok=True)
        if records.changed() != [record.id]:
            tally.bad(f"{way} changed and the sums do not show it")
        try:
            records.read(record.id)
            tally.end("noticed by the sums")
            if newer:
                tally.bad(f"format {changed['format']} was read")
        except FileError as error:
            sentence(error)
            alone += not newer
            tally.end("a newer format: kept, and told" if "keep the file" in str(error) else "noticed by the record itself")
        except Exception as error:
            tally.bad(f"{way}: {type(error).__name__} {error}"[:300])
        try:
            records.summaries()
            if newer:
                tally.bad(f"format {changed['format']} was planned with")
        except FileError as error:
            sentence(error)
        except Exception as error:
            tally.bad(f"{way}: {type(error).__name__} {error}"[:300])
        if not path.exists():
            tally.bad("the record was removed")
    tally.figures = {"share noticed without sums": round(alone / max(1, count - (count + 9) // 10), 2)}
    return tally


# Bundles


def bundles(folder: Path, count: int) -> Tally:
    """Bundles for `bench accept` with harmed bytes, forged records, strange members: refused in sentences, nothing is kept."""
    from test_submissions import FILES, POISONED, forged, judged, replaced, zipped
    from test_submissions import leaves as texts

    from unlearnable_bench.registry import resolve

    tally, draw, mark = Tally(), random.Random(12), folder / "ran"
    load(resolve("datasets", "digits")[0])
    space = folder / "space"
    whole, content = zipped(FILES), next(iter(POISONED.values()))
    words, figures = (
        [w for w in of(content) if w[0] not in ("id", "command")] for of in (texts, leaves)
    )  # `forged` mends those
    names = (
        "records/../../x.json",
        "/x",
        "..\\x",
        "setup.py",
        "x" * 300,
        "records/\x00.json",
        "é",
        "-rf",
        "records/$(touch x).json",
    )
    odd = (None, [], {}, True, -1, 1e308, 10**40, "", "x" * 3000, "<script>", "\x1b[2J", "\u202e", [[]] * 50, {"a": {"b": {}}})
    for number in range(count):
        how = number % 4
        if how == 0:
            made = whole
            for _ in range(draw.choice((1, 1, 3))):
                made = harmed(made, draw)
        elif how == 1:
            way = draw.choice(words)
            made = forged(lambda c, way=way: (c.clear(), c.update(replaced(content, way, draw.choice(PAYLOADS)))))
        elif how == 2:
            way = draw.choice(figures)
            old = at(content, way)
            new = _other(old, draw) if number % 8 == 2 else draw.choice(odd)
            made = forged(lambda c, way=way, new=new: (c.clear(), c.update(put(content, way, new))))
        else:
            name = draw.choice((*names, *FILES))
            thing = draw.choice((b"{}", b"", bundle.canonical(content), __import__("pickle").dumps(Bomb(mark)), bytes(1 << 22)))
            kind = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            made = zipped([*FILES.items(), (name, thing)], compression=kind)
        try:
            found = judged(made, Records(space / "results/records"))
            for reason in found.reasons:
                assert reason and "\n" not in reason and not any(unicodedata.category(c)[0] == "C" for c in reason), reason
            changed = made != whole and how != 2  # another figure within the rules is what "self-reported" says
            end = "refused in sentences" if not found.ok else "a figure changed within the rules: would be self-reported"
            tally.end("unchanged, passed" if made == whole else end)
            if found.ok and changed:
                tally.bad(f"a bundle changed in way {how} passed")
            if number % 40 < 4 and not found.ok:
                (folder / "x.zip").write_bytes(made)
                code, _, err = commanded("accept", folder / "x.zip", "--workspace", space)
                assert told(code, err) and code in (1, 2), (code, err)
        except Exception as error:
            tally.end("traceback")
            tally.bad(f"way {how}: {type(error).__name__} {error}"[:300])
        if space.exists() or mark.exists():
            tally.bad(f"way {how}: something was kept or run: {sorted(map(str, folder.rglob('*')))[:4]}")
            shutil.rmtree(space, ignore_errors=True)
            mark.rmdir() if mark.exists() else None
    return tally


# Files that grow

TAKING = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from conftest import as_data
from test_import import smooth
from unlearnable_bench.poisons.imports import import_poison
from unlearnable_bench.poisons.options import ImportOptions
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry import resolve
import torch
clean, dataset = as_data(smooth(8, 4)), resolve("datasets", "digits")[0]
store = Store(Path(sys.argv[2]) / "cache")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in sorted(Path(sys.argv[2]).glob("large-*")):
    before = peak()
    try:
        import_poison(store, path, dataset, clean, ImportOptions(norm="linf", epsilon=8 / 255), "", "")
        said = ""
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([path.name, said, peak() - before]), flush=True)
"""


def picture(side: int, extra: bytes = b"") -> bytes:
    """A gray PNG of side x side zeros, in little room, with some more chunks."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes((8, 0, 0, 0, 0))
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(side + 1)) for _ in range(side)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def swollen(folder: Path, count: int) -> Tally:
    """Small files that unpack to much, and large ones: refused by their sizes, in a sentence, and not read into memory."""
    text = b"note\0\0" + zlib.compress(bytes(1 << 28), 9)
    long = len(text).to_bytes(4, "big") + b"zTXt" + text + zlib.crc32(b"zTXt" + text).to_bytes(4, "big")
    pictures = {"8000": picture(8000), "14000": picture(14_000), "text": picture(32, long)}
    for name, content in pictures.items():
        with zipfile.ZipFile(folder / f"large-{name}.zip", "w") as archive:
            for row in range(8):
                archive.writestr(f"{row}.png", content)
        place = folder / f"large-{name}"
        place.mkdir()
        for row in range(8):
            (place / f"{row}.png").write_bytes(content)
    for name, inside in (("zip", "0.png"), ("npz", "images.npy"), ("pt", "archive/data.pkl")):  # half a GB of zeros in each
        path = folder / f"large-zeros.{name}"
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open(inside, "w", force_zip64=True) as member,
        ):
            for _ in range(1 << 5):
                member.write(bytes(1 << 24))
    whole = io.BytesIO()
    np.lib.format.write_array_header_1_0(whole, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 3, 32, 32)})
    (folder / "large-header.npy").write_bytes(whole.getvalue() + bytes(4096))
    with zipfile.ZipFile(folder / "large-header.npz", "w") as archive:
        archive.writestr("images.npy", whole.getvalue() + bytes(4096))
    for name in ("large-sparse.npy", "large-sparse.zip", "large-sparse/0.png", "large-parts/0.npy"):  # 3 GB of nothing
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("wb") as file:
            file.write(whole.getvalue())
            file.truncate(3 << 30)
    for row in range(1, 8):
        (folder / f"large-sparse/{row}.png").write_bytes(pictures["text"])
    tally, most = Tally(), 0
    shown = sorted(folder.glob("large-*"))[count:]
    for path in shown:  # a smaller trial
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = [sys.executable, "-P", "-c", TAKING, str(ROOT / "tests"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        name, said, grown = json.loads(line)
        tally.end("refused in a sentence" if said else "taken")
        if not said.startswith("EntryError: ") or "\n" in said:
            tally.bad(f"{name}: {said or 'was taken'}"[:300])
        if grown > 200:
            tally.bad(f"{name} took {grown:.0f} MiB")
        most = max(most, round(grown))
    tally.figures = {"most memory for one of them, MiB": most}
    if done.returncode:
        tally.bad(done.stderr[-300:])
    return tally


# Names

FLAG = "document.documentElement.dataset.ran='1'"
SHOTS = (
    f"<script>{FLAG}</script>",
    f"</script><script>{FLAG}</script>",
    f"</title></style></template><script>{FLAG}</script>",
    f"<img src=x onerror={FLAG}>",
    f'"><svg onload={FLAG}>',
    f"' onmouseover=\"{FLAG}\" autofocus onfocus='{FLAG}",
    f"javascript:{FLAG}",
    f"--><script>{FLAG}</script><!--",
    f"]]><script>{FLAG}</script>",
    f"<iframe srcdoc='<script>parent.{FLAG}</script>'>",
    f"\\u003cscript>{FLAG}\\u003c/script>",
    "{{ 7*7 }}{% raw %}",
    "<base href=http://evil.example/><meta http-equiv=refresh content=0;url=http://evil.example>",
)
PLUGIN = '''
"""{0}"""
from dataclasses import dataclass
from typing import ClassVar
from unlearnable_bench.registry import Attack, Budget, Defense, Paper

@dataclass(frozen=True)
class Strange(Attack):
    """{0}"""
    epsilon: float = 8 / 255  # {0}
    paper: ClassVar = Paper({1!r}, venue={1!r}, url={2!r}, authors={1!r}, year=2024, bibtex={1!r})
    @property
    def budget(self): return Budget("linf", self.epsilon)
    def craft(self, clean, job): return clean.images.float() * 0

@dataclass(frozen=True)
class Odd(Defense):
    """{0}"""
    paper: ClassVar = Paper({1!r}, venue={1!r}, url={2!r}, authors={1!r})
'''


def _stranger(folder: Path, draw: random.Random) -> Path:
    """A package of somebody with two entries, each of whose texts is meant for a browser."""
    place = folder / "plugin"
    info = place / "strange-1.0.dist-info"
    info.mkdir(parents=True)
    quoted = [shot.replace("\\", "\\\\").replace('"', "'") for shot in SHOTS]
    urls = (f"javascript:{FLAG}", f"data:text/html,<script>{FLAG}</script>", f'https://x/"onclick="{FLAG}')
    (place / "strange.py").write_text(PLUGIN.format(draw.choice(quoted), draw.choice(SHOTS), draw.choice(urls)))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bench.attacks]\nstrange = strange:Strange\n[bench.defenses]\nodd = strange:Odd\n")
    return place


def _hostile(folder: Path, draw: random.Random) -> None:
    """A workspace with a table and records whose every free text is meant for a browser."""
    from unlearnable_bench.results.cell import Part

    def shot() -> str:
        return draw.choice(SHOTS)

    table = {
        "title": shot(),
        "note": shot(),
        "protocol": "quick",
        "dataset": "digits",
        "architecture": "small-cnn",
        "seed": [0, 1],
    }
    attacks = ["none", "lsp", "strange"]
    rows = "".join(f"{{ attack = {json.dumps(name)}, label = {json.dumps(shot() + name)} }},\n" for name in attacks)
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    (folder / "table.toml").write_text(f'{lines}attack = [\n{rows}]\ndefense = ["none", "odd"]\n')
    records = Records(folder / "results/records")
    records.folder.mkdir(parents=True)
    base = a_record().cell
    for number in range(4):
        part = Part(name=shot(), fields={shot(): shot()}, text=shot())
        cell = base.model_copy(
            update={"seed": number, ("attack", "defense", "dataset", "architecture")[number]: part if number > 1 else (part,)}
        )
        fields = {key: shot() for key in ("device", "tree", "commit", "command", "finished", "dataset_fingerprint")}
        records.write(a_record(id=cell.id, cell=cell, versions={shot(): shot()}, numerics={shot(): shot()}, **fields))


def names(folder: Path, count: int) -> Tally:
    """Sites of tables, plug-ins and records whose every free text is a script, opened in a browser: none runs."""
    tally, draw = Tally(), random.Random(13)
    with _browser(folder / "profile") as browser:
        if browser is None:
            tally.skipped = "needs chromium and chromium-driver"
            return tally
        (folder / "armed.html").write_text(f"<!doctype html><title>x</title>{SHOTS[0]}")
        if not _opened(browser, folder / "armed.html")[0]:
            tally.bad("the scripts do not run where nothing stops them, so they prove nothing")
        for number in range(count):
            space = folder / f"names-{number}"
            space.mkdir()
            _hostile(space, draw)
            place = _stranger(space, draw)
            environment = {"PYTHONPATH": f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
            grid = ["--grid", space / "table.toml"] if number % 2 else []
            command = [
                sys.executable,
                "-P",
                "-c",
                "from unlearnable_bench.benchmark.cli import main; main()",
                "report",
                *grid,
                "--workspace",
                str(space),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if done.returncode:
                tally.bad(f"exit {done.returncode}: {done.stderr[-400:]}")
                continue
            site = space / "leaderboard/site"
            pages = sorted(path for path in site.rglob("*.html") if path.parent == site or number % 2)
            pages = [path for path in pages if FLAG.split("=")[0] in path.read_text() or path.name == "index.html"][:60]
            for path in pages:
                seen = Seen(path.read_text())
                if seen.handlers or seen.tags & {"iframe", "object", "base"}:
                    tally.bad(f"{path.name}: {seen.handlers[:2]} {sorted(seen.tags & {'iframe', 'object', 'base'})}")
                if any(link.lower().startswith(("javascript:", "data:text", "//")) for link in seen.links):
                    tally.bad(f"{path.name}: a link that runs")
                flag, where = _opened(browser, path)
                tally.end("a page opened, nothing ran")
                if flag or not where.startswith("file:"):
                    tally.bad(f"{path.name}: a script of a stranger ran, or led to {where}")
            shutil.rmtree(space)
    return tally


def _opened(browser: Any, path: Path) -> tuple[bool, str]:
    """Open a page, move and click on everything that takes it, and return whether the flag is set, and where this led."""
    browser.get("about:blank")
    browser.get(path.as_uri())
    ran = browser.execute_script(
        """
        for (const node of [...document.querySelectorAll('summary, button, [tabindex], td, th, input')].slice(0, 300)) {
            for (const kind of ['mouseover', 'focus', 'click']) node.dispatchEvent(new Event(kind, {bubbles: true}));
        }
        for (const node of document.querySelectorAll('a[href^="javascript" i]')) node.click();
        return document.documentElement.dataset.ran || document.title.includes('ran=1');
        """
    )
    return bool(ran), str(browser.current_url)


class _browser:  # noqa: N801 (a context, used once)
    """A browser without a window, None where there is none."""

    def __init__(self, profile: Path) -> None:
        self.profile, self.driver = profile, None

    def __enter__(self) -> Any:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if not (chromium and driver):
            return None
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={self.profile}",
        ):
            options.add_argument(flag)
        started: Any = webdriver.Chrome(options=options, service=Service(driver))
        started.set_page_load_timeout(120)
        self.driver = started
        return started

    def __exit__(self, *_: object) -> None:
        if self.driver is not None:
            self.driver.quit()
