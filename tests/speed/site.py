"""Prints what a board of many cells costs: seconds of one core to render, its size, how long a browser is busy with it.

`python -m speed.site [CELLS]`; the browser's part needs the packages chromium and chromium-driver. Figures are of this
machine: compare them with others of the same machine alone.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tables import with_fields

from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.registry import lacking, resolve
from unlearnable_bench.results import Grid, Record, Records, read_table
from unlearnable_bench.results.record import Curve, Metrics, PoisonNote

SORT = "document.querySelectorAll('#board .sort')[5].click(); document.body.offsetHeight"  # with the layout that follows


def table(cells: int) -> Grid:
    """The quick grid's recipe on a square of radii: `cells` combinations, one seed."""
    side = math.isqrt(cells)
    radii = [f"lsp(epsilon={1 + number / 1000})" for number in range(side - 1)]
    qualities = [f"jpeg(quality={number})" for number in range(1, min(side, 95))]
    bits = [f"at(epsilon={number / 1000})" for number in range(side - len(qualities) - 1)]
    axes = {"attack": ["none", *radii], "defense": ["none", *qualities, *bits], "seed": [0]}
    return Grid.of(with_fields(read_table("quick"), **axes))


def fill(records: Records, made: Grid) -> None:
    """Write a record for every cell, with numbers from its place alone."""
    for place, cell in enumerate(made.cells(resolve, lacking)):
        accuracy = (place * 37 % 1000) / 1000
        metrics = Metrics(
            test_acc=accuracy, test_acc_best=accuracy, curve=Curve(test_acc=[accuracy * k / 10 for k in range(1, 11)])
        )
        note = PoisonNote(checksum=f"{place:064x}", norm="l2", spent=1.0, allowed=1.0)
        found = {"train": 1.0, "craft": 0.1}
        records.write(Record(id=cell.id, cell=cell, metrics=metrics, poison=note, seconds=found, device="cpu"))


def browse(page: Path) -> dict[str, float]:
    """Open and sort a page in a browser without a window; milliseconds that its main thread was busy."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def busy() -> float:
        metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return 1000 * float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    try:
        driver.get("about:blank")
        driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        before = busy()
        driver.get(page.as_uri())
        opened = busy()
        driver.execute_script(SORT)
        return {"open": opened - before, "sort": busy() - opened}
    finally:
        driver.quit()


def main(cells: int = 10_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, made = Path(name), table(cells)
        records = Records(folder / "records")
        records.folder.mkdir()
        fill(records, made)
        start = time.process_time()
        shown = grid_table(made, records, "quick", resolve)
        print(f"reading and ranking {len(shown.scores):,} cells: {time.process_time() - start:.2f} s")
        start = time.process_time()
        page = Site([shown]).table_page(shown)
        print(f"the board's page: {time.process_time() - start:.2f} s, {len(page.encode()) / 2**20:.2f} MiB")
        start = time.process_time()
        files = Site([shown]).files()
        paths = formats.write_tables([], folder / "site", (), more=files)
        size = sum(path.stat().st_size for path in paths)
        print(f"the whole site: {time.process_time() - start:.2f} s, {len(paths)} files, {size / 2**20:.1f} MiB")
        if shutil.which("chromium") and shutil.which("chromedriver"):
            found = browse(folder / "site" / f"{shown.slug}.html")
            print(f"in a browser: opens in {found['open']:.0f} ms, sorts in {found['sort']:.0f} ms")
        else:
            print("no chromium and chromedriver here: nothing was opened")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
