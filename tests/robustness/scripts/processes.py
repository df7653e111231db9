"""Start the command in a process that costs no import: it is forked from one that holds everything already."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

sys.path.append(str(Path(__file__).parents[3] / "examples"))  # as pytest's pythonpath does
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["derl_mosi", "derl.demo.opening", "tensorboard"])
SMOKE = ("--preset", "smoke", "--epochs", "3", "--batch_size", "12", "--learning_rate", "0.01", "--recipe", "robust")
FILE_OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree", "os.truncate"}

RELATIVE = {"os.remove", "os.rmdir"}  # whose last detail is the folder's descriptor, or -1


def start(
    arguments: Sequence[str],
    log: Path,
    *,
    kill_at: int | None = None,
    folder: Path | None = None,
    environ: Mapping[str, str] = {},
    pictures: bool = False,
) -> BaseProcess:
    """Run ``derl_mosi.py`` with arguments, its words going to ``log``.

    Args:
        kill_at: which write, rename or removal below ``folder`` the process is killed at, just before; None: none.
        environ: environment variables of its own.
        pictures: whether it draws its pictures; otherwise they are files of the same names that show nothing.
    """
    _serve()
    process = _FORKSERVER.Process(target=_run, args=(list(arguments), log, kill_at, folder, dict(environ), pictures))
    process.start()
    return process


@cache
def _serve() -> None:
    """Start the server with this process's path: some versions of Python give it the environment's alone."""
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        ensure_running()


def finish(process: BaseProcess, seconds: float = 300) -> int:
    """Wait for the end; the exit code."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"still running after {seconds} s")
    assert process.exitcode is not None
    return process.exitcode


def _run(
    arguments: list[str],
    log: Path,
    kill_at: int | None,
    folder: Path | None,
    environ: dict[str, str],
    pictures: bool,
) -> None:
    assert "derl_mosi" in sys.modules, "the server preloaded nothing: every process would import it all"
    os.environ.update(environ)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import torch

    import derl_mosi

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as it is where the command is not itself forked
    torch.load = _forbidden
    if not pictures:
        _draw_nothing()
    sys.argv = ["derl_mosi.py", *arguments]
    if folder is not None:
        count = _count_file_operations(folder, kill_at)
    code = derl_mosi.main()
    if folder is not None:
        print(f"file operations: {count[0]}")
    sys.stdout.flush()
    sys.exit(code)


def _forbidden(*args: object, **kwargs: object) -> None:
    raise AssertionError("torch.load was called")


def _draw_nothing() -> None:
    """Write every picture of a report as a small empty one: drawing takes a third of a small run."""
    from matplotlib.figure import Figure

    from derl.report import write

    names = write.pictures
    write.pictures = lambda results: dict.fromkeys(names(results), lambda results: Figure(figsize=(1, 1)))


def _count_file_operations(folder: Path, kill_at: int | None) -> list[int]:
    """Count what changes files below the folder, and die at a number of them."""
    below, count = f"{folder}", [0]

    def watch(event: str, details: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = details
            changes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, changes = (details[0] if details else None), event in FILE_OPERATIONS
            if changes and isinstance(details[-1], int) and details[-1] > 0 and event in RELATIVE:
                path = f"{os.readlink(f'/proc/self/fd/{details[-1]}')}/{path}"  # as shutil.rmtree removes
        if changes and isinstance(path, str | Path) and str(path).startswith(below):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return count
