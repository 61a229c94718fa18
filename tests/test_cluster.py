"""What the slurm executor decides without SLURM: profiles, arrays, scripts, what follows a failure, states by files."""

import json
import os
import re
import sys
import time
import tomllib
from pathlib import Path

import pytest
from conftest import bench, call_bench
from hypothesis import given
from hypothesis import strategies as st

from unlearnable_bench.benchmark import failures, provenance, runs, slurm, snapshot, watch
from unlearnable_bench.benchmark.grid import adhoc, expand
from unlearnable_bench.benchmark.plan import Policy, plan_cells
from unlearnable_bench.benchmark.runs import Piece, Run
from unlearnable_bench.benchmark.schedule import ClusterSubmission
from unlearnable_bench.benchmark.slurm import Profile, arrays, minutes, read_profile
from unlearnable_bench.benchmark.watch import Trace, task_state
from unlearnable_bench.results import FileError, Records, Workspace
from unlearnable_bench.results.record import Failure

GOOD = 'partition = "gpu"\ntime = "4h"\nmemory = "16GB"\n'


def written(tmp_path, text):
    path = tmp_path / "site.toml"
    path.write_text(text)
    return path


WRONG = {
    'partition = "gpu"': "no `time`; every profile says how long a job may run",
    "time = 60": "`time` is 60: a duration is written with its unit",
    'time = "60"': "`time` is '60': a duration is written with its unit",
    'time = "10:30"': "`time` is '10:30': a duration is written with its unit",
    'time = "2min"': "`time` is 2 min, which is not more than signal=90 s",
    GOOD + 'memory_gb = "3GB"': "`memory_gb` is not known; a profile has time, memory, cpus",
    'time = "4h"\nmemory = 16': "`memory` is 16: a size is written with its unit",
    GOOD + "cpus = 0": "`cpus` is 0: input should be greater than or equal to 1",
    GOOD + 'gpu_option = "card"': "`gpu_option` is 'card': input should be 'gres', 'gpus' or 'gpus-per-node'",
    GOOD + '[sbatch]\ntime = "1:00:00"': "`sbatch.time` is given by `time` of the profile; take it out of [sbatch]",
    GOOD + "[sbatch]\njob_name = 'x'": "`sbatch.job_name` is set by the program; take it out of [sbatch]",
    GOOD + "[craft]\nspeed = 3": "`craft.speed` is not known",
    'account = "two words"\ntime = "4h"': "`account` is 'two words'",
    "time = ": "is not a TOML file",
    "time = " + "[" * 9_999: "is not a TOML file: maximum recursion depth",
    "cpus = " + "9" * 5_000: "is not a TOML file: Exceeds the limit",
    f'time = "{"9" * 400}h"': "a duration is written with its unit",
    f'time = "4h"\nmemory = "{"9" * 400}GB"': "a size is written with its unit",
    'time = "\u0664h"': "a duration is written with its unit",
    GOOD + '[sbatch]\ncomment = "x\\ncommand"': "`sbatch.comment",
    GOOD + 'srun = ["x\\ncommand"]': "`srun.0` is",
    GOOD + '[sbatch]\nTIME = "1:00:00"': "`sbatch.TIME",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_profile_is_one_sentence_with_what_was_found_and_expected(text, tmp_path):
    """Read by somebody who has never seen this program."""
    path = written(tmp_path, text)
    with pytest.raises(FileError) as error:
        read_profile(path)
    assert str(path) in str(error.value)
    assert WRONG[text] in str(error.value)
    assert "\n" not in str(error.value).partition("TOML")[0]


def test_a_profile_that_is_not_there_is_named(tmp_path):
    """Not a traceback."""
    with pytest.raises(FileError, match="there is no profile"):
        read_profile(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 2),
        ("45min", 45),
        ("4h", 240),
        ("1.5h", 90),
        ("2d", 2880),
        ("04:00:00", 240),
        ("1-12:00:00", 2160),
        ("00:00:30", 1),
    ],
)
def test_durations_are_whole_minutes(text, expected):
    """SLURM counts in minutes; submitit wants an integer."""
    assert minutes(text) == expected


OPTIONS = {
    ("--executor", "slurm"): "--executor slurm needs --profile FILE",
    ("--executor", "slurm", "--profile", "PROFILE", "--workers", "2"): "`at_once` of the profile",
    ("--executor", "slurm", "--profile", "PROFILE", "--device", "cpu"): "`gpus` of the profile decides",
    ("--profile", "PROFILE"): "--profile is for --executor slurm",
    ("--cells-per-job", "3"): "--cells-per-job is for --executor slurm",
    ("--wait",): "--wait is for --executor slurm",
    ("--show-sbatch",): "--show-sbatch needs --dry-run",
    ("--show-sbatch", "--dry-run"): "--show-sbatch is for --executor slurm",
    ("--executor", "cloud"): "unknown executor 'cloud'; executors are local, inline, slurm",
}


@pytest.mark.parametrize("flags", OPTIONS, ids=" ".join)
def test_flags_that_do_not_fit_are_refused_before_any_work(flags, tmp_path):
    """Exit code 2 and one sentence."""
    path = written(tmp_path, GOOD)
    _, error = call_bench("run", *(str(path) if flag == "PROFILE" else flag for flag in flags), workspace=tmp_path, code=2)
    assert OPTIONS[flags] in error
    assert len(error.strip().splitlines()) == 1


def test_without_slurm_the_sentence_says_where_to_go(tmp_path):
    """A laptop has no sbatch."""
    empty = tmp_path / "bin"
    empty.mkdir()
    flags = ["--executor", "slurm", "--profile", str(written(tmp_path, GOOD))]
    _, error = bench("run", *flags, workspace=tmp_path, environment={"PATH": str(empty)}, code=2)
    assert "no sbatch and no srun here; run it on a login node of the cluster" in error


SCRIPT = """\
# array 1 of 2: 2 tasks
#!/bin/bash

# Parameters
#SBATCH --account=lab
#SBATCH --array=0-1%2
#SBATCH --constraint=a100
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:a100:1
#SBATCH --job-name='bench-<run>'
#SBATCH --mem=16384M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --open-mode=append
#SBATCH --output='WORKSPACE/.bench/runs/<run>/jobs/%A_%a_0_log.out'
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=240

# setup
module load cuda
export PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1
export MALLOC_TRIM_THRESHOLD_=1073741824
export MALLOC_MMAP_THRESHOLD_=1073741824
export TORCHINDUCTOR_COMPILE_THREADS=2
export PYTHONPATH='<copy of the code>'
export PYTHONNOUSERSITE=1
export BENCH_DATA=FOLDER
export BENCH_CELLS_PER_GPU=2
cd 'WORKSPACE/.bench/runs/<run>/empty'

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output 'WORKSPACE/.bench/runs/<run>/jobs/%A_%a_%t_log.out' --cpus-per-task=4 --mpi=none PYTHON -u -m \
submitit.core._submit 'WORKSPACE/.bench/runs/<run>/jobs'
"""


def test_the_script_is_shown_exactly_on_machines_without_slurm_too(tmp_path, monkeypatch):
    """No wckey of submitit's, no time as a word, the copy of the code first, an empty working directory."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    more = (
        'account = "lab"\nqos = "long"\ncpus = 4\ngpu_type = "a100"\nat_once = 64\nsignal = 120\nsetup = ["module load cuda"]\n'
    )
    more += 'srun = ["--mpi=none"]\n[sbatch]\nconstraint = "a100"\n'
    flags = ["--executor", "slurm", "--profile", str(written(tmp_path, GOOD + more)), "--dry-run", "--show-sbatch"]
    out, _ = call_bench("run", "--attack", "none,lsp", *flags, "--cells-per-device", "2", workspace=tmp_path)
    expected = SCRIPT.replace("WORKSPACE", str(tmp_path)).replace("FOLDER", os.environ["BENCH_DATA"])
    first, second = re.split(r"(?=# array 2)", out)
    assert first.strip() == expected.replace("PYTHON -u", f"{sys.executable} -u").strip()
    assert "#SBATCH --dependency='afterany:<array 1>'" in second
    assert not (tmp_path / ".bench").exists()


def sizes(found):
    return [(array.first, array.size, array.cap, array.after) for array in found]


def test_arrays_are_split_at_the_limit_and_share_the_cap():
    """1,500 tasks where the cluster takes 1,001; three arrays on a cap of two wait for each other."""
    profile = Profile(time="4h", at_once=8)
    pieces = [Piece(0, 1)] * 1500
    assert sizes(arrays(pieces, profile, 1001)) == [(0, 1001, 4, ()), (1001, 499, 4, ())]
    assert sizes(arrays(pieces, Profile(time="4h", at_once=2), 600)) == [
        (0, 600, 1, ()),
        (600, 600, 1, ()),
        (1200, 300, 1, (0,)),
    ]


def test_cells_that_wait_for_a_poison_come_after_what_crafts_it():
    """SLURM holds them back, so that no GPU waits; whatever becomes of the crafting, they begin after it."""
    pieces = [Piece(0, 1, "craft"), Piece(0, 1), Piece(0, 1), Piece(0, 1, waits=True)]
    assert sizes(arrays(pieces, Profile(time="4h"), 1001)) == [(0, 3, 100, ()), (3, 1, 100, (0,))]
    longer = arrays(pieces, Profile.model_validate({"time": "4h", "craft": {"time": "12h"}}), 1001)
    assert [(array.size, array.resources.time) for array in longer] == [(1, 720), (2, 240), (1, 240)]
    assert longer[2].after == (0, 1)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([1.0, 1.5, 2.25])), max_size=40), st.integers(1, 9), st.integers(1, 7))
def test_every_part_is_in_one_array_and_the_cap_holds(kinds, at_once, limit):
    """Whatever the cells need, no part is lost and no more than `at_once` run."""
    pieces = [Piece(0, 1, "train", time, 1.0, waits) for waits, time in kinds]
    found = arrays(pieces, Profile(time="4h", max_time="9d", at_once=at_once), limit)
    covered = sorted(number for array in found for number in range(array.first, array.first + array.size))
    assert covered == list(range(len(pieces)))
    assert all(array.size <= limit for array in found)
    for phase in (False, True):
        lanes = [array for array in found if pieces[array.first].waits is phase]
        numbers = {found.index(array) for array in lanes}
        assert sum(array.cap for array in lanes if not numbers & set(array.after)) <= at_once
        assert all(array.cap >= 1 for array in lanes)


def planned(tmp_path, **axes):
    space = Workspace(tmp_path)
    space.writable()
    cells, roots = expand(adhoc({key: list(map(str, values)) for key, values in axes.items()}))
    return space, plan_cells("test", cells, roots, Records(space.records), Policy(detached=True))


def submitted(space, made, per_job=1, queue_takes=None, **more):
    """A run whose arrays SLURM has taken, as its files show it."""
    profile = Profile(time="4h", gpus=0, max_submit=queue_takes)
    submission = ClusterSubmission.of(made, space.poisons, profile, per_job, {"MaxArraySize": "1001"})
    content = {
        "walltime": [240] * len(submission.pieces),
        "signal": 90,
        "cluster": "x",
        "code": "",
        "code_path": [],
        "tree": "",
        "plugins": "",
    } | more
    run = Run.create(space, Records(space.records), made, "cpu", False, submission.pieces, content)
    jobs = [[str(number), array.first, array.size] for number, array in enumerate(submission.arrays)]
    (run.folder / "arrays.json").write_text(json.dumps(jobs))
    return run, submission


def test_each_missing_poison_is_crafted_by_one_task(tmp_path):
    """Cells that need no poison, or have it, do not wait."""
    space, made = planned(tmp_path, attack=["none", "lsp", "ops"], seed=[0, 1])
    _, submission = submitted(space, made, per_job=2)
    stages = [(piece.stage, len(tasks), piece.waits) for tasks, piece in submission.pieces]
    assert stages == [*[("craft", 1, False)] * 4, ("train", 2, False), *[("train", 2, True)] * 2]


def test_what_the_queue_does_not_take_is_left_for_the_next_run(tmp_path):
    """`max_submit` counts array tasks."""
    space, made = planned(tmp_path, seed=range(10))
    run, submission = submitted(space, made, queue_takes=4)
    assert submission.left == 6
    standing = watch.survey(space, Records(space.records))
    assert sum(state == "queued" for state, _ in standing.cells.values()) == 4
    assert len(run.tasks) == 4


def test_a_job_reads_its_own_cells_alone(tmp_path):
    """Ten thousand cells must not be read ten thousand times."""
    space, made = planned(tmp_path, seed=range(7))
    run, _ = submitted(space, made, per_job=3)
    again = Run(run.folder)
    assert [[task.cell.seed for task in again.piece_tasks(number)] for number in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert again.piece_ids() == [[task.cell.id for task in again.piece_tasks(number)] for number in range(3)]


WORDS = {
    "PENDING": "queued",
    "REQUEUE_HOLD": "queued",
    "CONFIGURING": "queued",
    "RUNNING": "queued",  # without a heartbeat yet
    "COMPLETED": "lost",
    "FAILED": "lost",
    "TIMEOUT": "lost",
    "NODE_FAIL": "lost",
    "OUT_OF_MEMORY": "lost",
    "CANCELLED": "cancelled",
    "": "lost",  # SLURM has forgotten it
}


@pytest.mark.parametrize("word", WORDS)
def test_what_slurm_says_of_a_job_without_traces(word, tmp_path, monkeypatch):
    """Every word has a meaning; transient ones are no ends."""
    space, made = planned(tmp_path)
    run, _ = submitted(space, made)
    answer = {(slurm.job_name(run.name), "0", 0): word} if word else {}
    monkeypatch.setattr(slurm, "queue", lambda names, cluster: answer)
    monkeypatch.setattr(slurm, "history", lambda names, since: {})
    ((state, _),) = watch.survey(space, Records(space.records)).cells.values()
    assert state == WORDS[word]


def test_an_end_that_only_accounting_remembers_has_its_name(tmp_path, monkeypatch):
    """squeue forgets ended jobs after minutes, sacct does not."""
    space, made = planned(tmp_path)
    run, _ = submitted(space, made)
    monkeypatch.setattr(slurm, "queue", lambda names, cluster: {})
    monkeypatch.setattr(slurm, "history", lambda names, since: {(slurm.job_name(run.name), "0", 0): "NODE_FAIL"})
    watch.settle(space, Records(space.records))
    (failure,) = Records(space.records).failures()
    assert failure.kind == "node-failure"
    assert run.over


def test_without_slurm_files_alone_tell(tmp_path, monkeypatch):
    """From another machine: no trace is queued, a heartbeat is running, silence is lost."""
    monkeypatch.setattr(slurm, "queue", lambda names, cluster: None)
    space, made = planned(tmp_path)
    run, _ = submitted(space, made)
    records = Records(space.records)

    def state():
        ((found, _),) = watch.survey(space, records).cells.values()
        return found

    assert state() == "queued"
    trace = run.folder / "parts" / "0.0"
    trace.write_text(json.dumps({"host": "node7", "pid": 1, "born": 0}))
    assert state() == "running"
    past = time.time() - 200
    os.utime(trace, (past, past))
    assert state() == "lost"
    watch.settle(space, records)
    assert [(failure.kind, failure.attempts) for failure in records.failures()] == [("lost", 1)]


def test_cancelled_cells_are_so_until_another_run_takes_them_up(tmp_path, monkeypatch):
    """Else a cell that failed for good after a cancelled run would be tried again for ever."""
    monkeypatch.setattr(slurm, "queue", lambda names, cluster: None)
    space, made = planned(tmp_path)
    records = Records(space.records)
    first, _ = submitted(space, made)
    first.stop(cancelled=True)
    assert [state for state, _ in watch.settle(space, records).cells.values()] == ["cancelled"]
    assert first.over
    assert [state for state, _ in watch.survey(space, records).cells.values()] == ["cancelled"]
    second, _ = submitted(space, made)
    second.fail(second.tasks[0], "plug-in", "no luck")
    second.finish()
    assert not watch.survey(space, records).cells


def test_attempts_are_bounded_and_ask_for_more_where_that_helps():
    """A table, not a loop for ever."""
    space = [
        Failure(id="x", cell=expand(adhoc({}))[0][0], kind=kind, message="", attempts=1) for kind in failures.FAILURE_RULES
    ]
    tried = {failure.kind for failure in space if failures.is_tried_again(failure, grows=True)}
    assert tried == set(failures.FAILURE_RULES) - {"plug-in", "diverged", "budget", "gpu-memory"}
    memory = next(failure for failure in space if failure.kind == "out-of-memory")
    assert not failures.is_tried_again(memory, grows=False), "the same machine has the same memory"
    for failure in space:
        assert not failures.is_tried_again(
            failure.model_copy(update={"attempts": failures.FAILURE_RULES[failure.kind].attempts}), grows=True
        )
    assert failures.growth(memory) == (1.0, 2.0)
    profile = Profile(time="4h", memory="16GB", max_time="8h")
    grown = profile.resources(Piece(0, 1, "train", 1.5**9, 2.0))
    assert (grown.time, grown.memory) == (480, 32768)
    assert profile.resources(Piece(0, 1, "train", 1.0, 64.0)).memory == 4 * 16384


def test_the_document_names_every_end_and_its_rule():
    """The table that a researcher reads is the table that the program follows; an example profile in it is valid."""
    text = (Path(__file__).parent.parent / "docs" / "how-to" / "slurm.md").read_text()
    for kind, rule in failures.FAILURE_RULES.items():
        assert f"| {kind} | {rule.meaning} | {rule.then} |" in text
    profile = Profile.model_validate(tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1]))
    assert profile.resources(Piece(0, 1, "craft")).time == 720


def test_a_copy_of_the_code_is_shared_and_knows_its_commit(tmp_path):
    """Two runs of the same code, one folder; what is in it hashes to what records say."""
    first, second = snapshot.take_snapshot(tmp_path, []), snapshot.take_snapshot(tmp_path, [])
    assert first.folder == second.folder
    assert [path.name for path in tmp_path.iterdir()] == [first.folder.name]
    assert first.tree == provenance.tree()
    assert json.loads((first.folder / "unlearnable_bench" / provenance.SUBMITTED).read_text()) == provenance.commit()
    assert not (first.folder / "unlearnable_bench" / "results" / "records").exists()


def test_runs_that_are_not_over_are_never_cleared_away(tmp_path):
    """Their jobs may be queued for days."""
    space, made = planned(tmp_path)
    first, _ = submitted(space, made)
    for _ in range(runs.KEPT_RUNS + 3):
        later, _ = submitted(space, made)
        later.finish()
    assert first.folder.exists()
    assert len(list(Path(space.private / "runs").iterdir())) <= runs.KEPT_RUNS + 2


@pytest.mark.parametrize(
    ("word", "trace", "answers", "state"),
    [
        ("PENDING", Trace.NONE, True, "queued"),
        ("PENDING", Trace.OLD, True, "queued"),  # started again after a preemption
        ("RUNNING", Trace.NONE, True, "queued"),
        ("RUNNING", Trace.FRESH, True, "running"),
        ("RUNNING", Trace.OLD, True, "queued"),
        ("", Trace.FRESH, True, "running"),
        ("", Trace.FRESH, False, "running"),
        ("", Trace.NONE, False, "queued"),
        ("", Trace.OLD, False, "lost"),
        ("", Trace.NONE, True, "lost"),
        ("COMPLETED", Trace.FRESH, True, "lost"),
        ("NODE_FAIL", Trace.NONE, True, "lost"),
    ],
)
def test_the_state_of_an_array_task(word, trace, answers, state):
    """SLURM's word and the lease that the task renews decide together; where both are silent, nobody claims a loss."""
    assert task_state(word, trace, answers) == state
