"""`make reliability`: runs the campaign, or the experiments that are named, and writes `docs/explanation/reliability.json`."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from campaign import ROOT, Experiment, faults, laws, load, strangers
from unlearnable_bench.benchmark import provenance

EXPERIMENTS: dict[Experiment, int] = {  # how many trials
    laws.items: 5000,
    laws.tables: 3000,
    laws.plans: 500,
    laws.cut_records: 9000,
    laws.harmed_records: 3000,
    laws.damaged_sets: 400,
    laws.imports: 3000,
    laws.archives: 500,
    laws.pages: 40,
    strangers.edited_records: 3000,
    strangers.bundles: 2000,
    strangers.swollen: 15,
    strangers.names: 20,
    faults.clocks: 200,
    faults.half_written: 120,
    faults.jumps: 10,
    faults.read_only: 24,
    faults.full_disk: 12,
    faults.crowd: 6,
    faults.seen_late: 6,
    faults.storm: 10,
    faults.killed_and_resumed: 20,
    load.many_records: 5000,
    load.memory: 20_000,
    load.soak: 2000,
}


def machine() -> str:
    """This machine in words: processor, cores, memory, system, versions."""
    import torch

    memory = psutil.virtual_memory().total / 2**30
    cores = f"{len(os.sched_getaffinity(0))} cores of {provenance.device_name('cpu').removeprefix('cpu: ')}"
    return f"{cores}, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"


def main(wanted: list[str]) -> int:
    """Run the experiments, print a line for each, and write what they counted. 1 if one of them ended as it must not."""
    logging.disable(logging.WARNING)  # of sets that are set aside, by the hundred
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # not what is installed
    book = ROOT / "docs" / "explanation" / "reliability.json"
    wrong = 0
    for experiment, count in EXPERIMENTS.items():
        name, _, own = next((word for word in wanted if word.partition("=")[0] == experiment.__name__), "").partition("=")
        if wanted and not name:
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            tally = experiment(Path(folder), int(own or count))
        if provenance.tree.__wrapped__() != provenance.tree():  # what was counted belongs to no code
            tally.bad("the code was changed meanwhile: begin again, in a checkout that nobody edits")
        what = (experiment.__doc__ or "").strip()
        kept = {"what": what, "date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": provenance.commit(), "machine": machine()}
        found = json.loads(book.read_text()) if book.exists() else {}
        found[experiment.__name__] = kept | {"minutes": round((time.monotonic() - start) / 60, 1)} | tally.plain()
        book.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{experiment.__name__}: {tally.trials} trials, {len(tally.wrong)} wrong {tally.wrong or ''}", flush=True)
        wrong += bool(tally.wrong)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
