"""Commands whose output goes into a pipe that is closed before they have printed all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def into_a_pipe(words, read):
    """Standard error and exit code of a command of whose output a reader takes `read` bytes, then closes the pipe."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-W", "ignore", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, env=environment, cwd=ROOT, **pipes) as process:
        process.stdout.read(read) if read else None
        process.stdout.close()
        errors = process.stderr.read().decode()
    return errors, process.returncode


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["list"], 0),
        (["list"], 1),
        (["info", "idle_tiny"], 1),
        (["table", "shufflenet", "--number", "7"], 0),
        (["--help"], 0),
        (["export", "--help"], 1),
    ],
    ids=str,
)
def test_a_reader_that_leaves_is_no_error(words, read):
    errors, code = into_a_pipe(["-m", "gluon_effnets", *words], read)
    assert (errors, code) in {("", 0), ("", 1)}


def run_python(function):
    """A program whose one command is called `act` and runs the function of that name in the given text."""
    table = "run_command([Command('act', '', lambda parser: None, act)], ['act'])"
    lines = ("import sys", "from gluon_effnets.commands.command import Command, run_command", function)
    return ["-c", "\n".join([*lines, f"sys.exit({table})"])]


def test_long_output_ends_when_its_reader_leaves():
    errors, code = into_a_pipe(run_python("def act(args): [print('line') for _ in range(10**6)]"), 5)
    assert (errors, code) == ("", 1)


def test_a_broken_pipe_to_another_process_is_still_an_error():
    words = run_python("def act(args): raise BrokenPipeError(32, 'Broken pipe')")
    done = subprocess.run([sys.executable, "-W", "ignore", *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 32] Broken pipe\n")
