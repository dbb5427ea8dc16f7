"""Who writes to a results folder: one run, or several shards of one task.

    DIR/running/<host>-<pid>-<token>.json    {host, pid, started, began, task, shard}

    write the own file -> read the others -> a living one excludes this run: remove the own file, refuse
                                          -> one of a dead process: remove it

Two runs that start at the same moment may both be refused, but never neither. Files whose name starts with a dot are
not whole yet, or were left by a killed process. Whether a process lives is known on its
own host alone; the file of another host has to be removed by hand if its process has died.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import output_directory, write_json


@dataclass(frozen=True)
class Holder:
    """A process that writes to the folder.

    Args:
        host: name of its machine.
        pid: number of the process.
        started: when the process started, as the system counts it; "" if unknown. Numbers of processes are used again.
        began: when the run began, for the reader.
        task: what it computes; processes of different tasks exclude each other.
        shard: (i, n) of a shard, or None.
    """

    host: str
    pid: int
    started: str
    began: str
    task: str
    shard: tuple[int, int] | None

    @property
    def is_alive(self) -> bool:
        """Whether the process may still run."""
        if self.host != platform.node() or os.name == "nt":
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return _started(self.pid) == self.started

    def excludes(self, other: Holder) -> bool:
        """Return whether two processes may not write at the same time; different shards of one division may."""
        if self.shard is None or other.shard is None or self.task != other.task or self.shard[1] != other.shard[1]:
            return True
        return self.shard[0] % self.shard[1] == other.shard[0] % other.shard[1]


_HOLDER = TypeAdapter(Holder)
_ATTEMPTS = 100  # the folder is removed between two steps by no more processes than this


@contextmanager
def held(folder: Path, task: str, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold a results folder while the block runs.

    Args:
        folder: the results folder.
        task: what is computed: the identity of a suite, for example.
        shard: (i, n) of a shard, or None for a whole run.

    Raises:
        BadInput: another process holds it.
    """
    pid, now = os.getpid(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    own = Holder(platform.node(), pid, _started(pid), now, task, shard)
    file = folder / "running" / f"{own.host}-{pid}-{secrets.token_hex(4)}.json"
    try:
        _write(file, own)
        for other in sorted(file.parent.glob("[!.]*.json")):
            holder = None if other == file else _read(other)
            if holder is None:
                continue
            if not holder.is_alive:
                other.unlink(missing_ok=True)
            elif holder.excludes(own):
                raise BadInput(_refusal(folder, other, holder, own))
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
            file.parent.rmdir()


def _write(file: Path, own: Holder) -> None:
    """Write the file of a process, in a folder that another one may remove when it ends."""
    for _ in range(_ATTEMPTS):
        try:
            output_directory(file.parent)
            write_json(file, asdict(own))
        except BadInput as error:
            if not isinstance(error.__cause__, FileNotFoundError | FileExistsError):
                raise
            failure = error
        else:
            return
    raise failure


def _refusal(folder: Path, file: Path, holder: Holder, own: Holder) -> str:
    what = "a whole run" if holder.shard is None else f"shard {holder.shard[0]}/{holder.shard[1]}"
    what += "" if holder.task == own.task else " of another task"
    got = f"{what} by process {holder.pid} on {holder.host} since {holder.began}"
    remedy = "wait for it or choose another output"
    if holder.host != own.host:
        remedy += f"; if it has died, remove {Path(file.parent.name, file.name)}"
    return f"{folder}: expected a folder that no other run writes to, got {got}; {remedy}"


def _read(file: Path) -> Holder | None:
    """Return the holder of a file; None if it has just ended. Files are whole at any time."""
    try:
        return _HOLDER.validate_python(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        raise BadInput(f"{file}: expected the lock of a run, got something else; remove it") from error


def _started(pid: int) -> str:
    """Return when a process started, where the system has /proc, else ""."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19]
