"""A private one-node SLURM cluster for tests: own folder, own ports, own key; real daemons of Debian's packages, as root.

By hand: `python tests/slurm/cluster.py up FOLDER` prints the SLURM_CONF to export, `python tests/slurm/cluster.py down FOLDER`.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacctmgr", "sacct")
INSTALL = "apt-get install slurm-wlm munge slurmdbd mariadb-server"

CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
KillWait=5
MinJobAge={min_job_age}
InactiveLimit=0
Waittime=0
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,bf_continue,sched_min_interval=100000,defer
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
JobRequeue=1
MaxArraySize={max_array}
MaxJobCount=20000
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType={storage}
{more}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=normal Nodes={host} Default=YES MaxTime=7-0 DefMemPerCPU=300 PriorityTier=1 PreemptMode=REQUEUE State=UP
PartitionName=urgent Nodes={host} Default=NO MaxTime=1:00:00 DefMemPerCPU=300 PriorityTier=10 PreemptMode=OFF State=UP
"""


def unusable(accounting: bool = False) -> str:
    """Say why there can be no cluster on this machine, or return ''."""
    programs = PROGRAMS + (ACCOUNTING if accounting else ())
    absent = [name for name in programs if not shutil.which(name, path=_path())]
    if absent:
        return f"no {', '.join(absent)} here; `{INSTALL}` brings them"
    return "" if os.geteuid() == 0 else "the private cluster's daemons must be started by root"


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """The daemons of one folder."""

    def __init__(self, folder: Path, max_array: int = 1001, accounting: bool = False, cpus: int = 8, min_job_age: int = 300):
        self.folder, self.accounting = folder, accounting
        self.conf = folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": _path()}
        self._mariadb: subprocess.Popen[bytes] | None = None
        self._limits = {"max_array": max_array, "cpus": cpus, "min_job_age": min_job_age}

    def up(self) -> Cluster:
        """Write the configuration, start the daemons, wait until the node is idle. RuntimeError with the logs' folder."""
        for name in ("munge", "state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = [
            f"--{name}={self.folder}/munge/{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file", "log-file")
        ]
        self._start("munged", "--force", *munge, f"--seed-file={self.folder}/munge/seed")
        storage, more = "accounting_storage/none", ""
        if self.accounting:
            storage, more = "accounting_storage/slurmdbd", self._database()
        self.conf.write_text(
            CONF.format(
                host=socket.gethostname().partition(".")[0],
                folder=self.folder,
                ctld=_free_port(),
                slurmd=_free_port(),
                memory=4000,
                storage=storage,
                more=more,
                **self._limits,
            )
        )
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nIgnoreSystemd=yes\n")
        if self.accounting:
            self.command("sacctmgr", "-i", "add", "cluster", "bench", check=False)
            self.command("sacctmgr", "-i", "add", "account", "lab", check=False)
            self.command("sacctmgr", "-i", "add", "user", getpass.getuser(), "account=lab", check=False)
        self._start("slurmctld", "-f", str(self.conf), "-c")
        self.start_node()
        return self

    def _start(self, *command: str) -> None:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}; logs are in {self.folder}")

    def _database(self) -> str:
        data, socket_path, port = self.folder / "db", self.folder / "db.socket", _free_port()
        data.mkdir()
        self._start("mariadb-install-db", "--user=root", f"--datadir={data}", "--auth-root-authentication-method=normal")
        with (self.folder / "db.log").open("w") as log:
            self._mariadb = subprocess.Popen(
                [
                    shutil.which("mariadbd", path=_path()) or "mariadbd",
                    "--no-defaults",
                    "--user=root",
                    f"--datadir={data}",
                    f"--socket={socket_path}",
                    f"--pid-file={self.folder}/db.pid",
                    f"--port={port}",
                    "--bind-address=127.0.0.1",
                    "--innodb-buffer-pool-size=64M",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        sql = "create database slurm; create user 'slurm'@'localhost' identified by 'slurm'; "
        sql += "create user 'slurm'@'127.0.0.1' identified by 'slurm'; "
        sql += "grant all on slurm.* to 'slurm'@'localhost'; grant all on slurm.* to 'slurm'@'127.0.0.1';"
        self._until(lambda: socket_path.exists(), "the database")
        self._until(lambda: not self.command("mariadb", f"--socket={socket_path}", "-e", sql, check=False)[0], "the database")
        dbd, conf = _free_port(), self.folder / "slurmdbd.conf"
        conf.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge/socket\nDbdHost=localhost\nDbdPort={dbd}\nSlurmUser=root\n"
            f"LogFile={self.folder}/slurmdbd.log\nPidFile={self.folder}/slurmdbd.pid\nStorageType=accounting_storage/mysql\n"
            f"StorageHost=127.0.0.1\nStoragePort={port}\nStorageUser=slurm\nStoragePass=slurm\nStorageLoc=slurm\n"
        )
        conf.chmod(0o600)
        self._start("slurmdbd")
        time.sleep(2)
        return f"AccountingStorageHost=localhost\nAccountingStoragePort={dbd}\nAccountingStoragePass={self.folder}/munge/socket"

    def start_node(self) -> None:
        """Start slurmd and wait until jobs can run."""
        self._start("slurmd", "-f", str(self.conf), "-N", socket.gethostname().partition(".")[0])
        ready = r"\b(idle|mix|alloc|mixed|allocated)\b"
        self._until(lambda: bool(re.search(ready, self.command("sinfo", "-h", "-o", "%T", check=False)[1])), "the node")

    def stop_node(self) -> None:
        """Kill slurmd, as a crash of the node's daemon does; running jobs go on."""
        self._kill("slurmd.pid", signal.SIGKILL)

    def command(self, *command: str, check: bool = True) -> tuple[int, str]:
        """Run a command of the cluster; return (exit code, standard output)."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.returncode, done.stdout

    def jobs(self, *states: str) -> list[str]:
        """The ids of jobs (with array tasks) in some states, of the whole queue without."""
        wanted = ["-t", ",".join(states)] if states else []
        return self.command("squeue", "-h", "-r", "-o", "%i", *wanted)[1].split()

    def hurry(self) -> None:
        """Let requeued jobs begin now: SLURM makes them wait two minutes."""
        for line in self.command("squeue", "-h", "-r", "-t", "PD", "-o", "%i %r", check=False)[1].splitlines():
            job, _, reason = line.partition(" ")
            if reason in ("BeginTime", "None"):
                self.command("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def _until(self, ready: object, what: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready():  # type: ignore[operator]
                return
            time.sleep(0.2)
        raise RuntimeError(f"{what} of the private cluster did not come up in {seconds:.0f} s; logs are in {self.folder}")

    def _kill(self, pid_file: str, number: int) -> None:
        path = self.folder / pid_file
        try:
            pid = int(path.read_text())
            os.kill(pid, number)
        except (OSError, ValueError):
            return
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.1)

    def down(self) -> None:
        """Cancel all jobs and stop the daemons; the folder stays."""
        if self.conf.exists():
            self.command("scancel", "-f", "-u", getpass.getuser(), check=False)
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and self.command("squeue", "-h", check=False)[1].strip():
                time.sleep(0.3)
        for name in ("slurmd.pid", "slurmctld.pid", "slurmdbd.pid", "db.pid", "munge/pid"):
            self._kill(name, signal.SIGTERM)
        if self._mariadb is not None:
            self._mariadb.wait(20)


@contextmanager
def cluster(folder: Path, **limits: object):
    """A cluster for the length of a block."""
    one = Cluster(folder, **limits)  # type: ignore[arg-type]
    try:
        yield one.up()
    finally:
        one.down()


if __name__ == "__main__":
    what, place = sys.argv[1], Path(sys.argv[2]).absolute()
    if what == "up":
        if reason := unusable("--accounting" in sys.argv):
            sys.exit(reason)
        made = Cluster(place, accounting="--accounting" in sys.argv).up()
        print(f"export SLURM_CONF={made.conf}")
    else:
        Cluster(place).down()
