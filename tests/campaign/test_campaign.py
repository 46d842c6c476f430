"""A small share of the campaign, and what its judge is there to find."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap

import pytest
from waiting import PATIENCE_S
from workers import ROOT, environment

FOUND = {
    "crash": ("os.kill(os.getpid(), 11)", "ended by signal 11"),
    "trace": ("raise KeyError('x')", "raised what no function of ours announces"),
    "silence": ("sys.exit(3)", "refused without a message"),
    "code": ("os.system('true')", "ran what a stranger wrote"),
    "canary": ("open('canary.ran', 'w').close()", "ran what a stranger wrote"),
    "leftover": ("open('half', 'w').close(); raise ValueError('no')", "left half written: ['half']"),
    "echo": ("raise ValueError('x' * 3000)", "a message of 3,000 characters"),
    "warning": ("import warnings; warnings.warn_explicit('w', UserWarning, 'a.py', 3)", "a trace or noise"),
    "nan": ("print(' nan%  1')", "numbers that are none"),
    "endless": ("\nwhile True: pass", "used more than 1 s of the processor"),
    "other answer": ("print('another answer')", "answered otherwise"),
    "refused": ("raise ValueError('the file is damaged')", None),
    "answered": ("print('the answer')", None),
}
JUDGE = """
import os, pathlib, sys
from tests.campaign import judge
judge.CPU_S = 1
judge._ANSWERS["x"] = "the answer\\n"
def make(place, draw):
    def run():
        exec(sys.argv[1], globals())
    return judge.Call(run, same=sys.argv[1].startswith("print('"))
[verdict] = judge.run_part(judge.Part("x", make), range(7, 8), 0, pathlib.Path(sys.argv[2]))
print(verdict.failure)
"""


def campaign(*arguments, code=None):
    command = [sys.executable, *(["-m", "tests.campaign"] if code is None else ["-c", code]), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=PATIENCE_S)


@pytest.mark.parametrize("what", FOUND)
def test_the_judge_finds(what, tmp_path):
    code, failure = FOUND[what]
    told = campaign(code, tmp_path, code=textwrap.dedent(JUDGE))
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == "None" if failure is None else failure in told.stdout


def test_damaged_inputs_are_refused_in_a_sentence_or_answered(tmp_path):
    told = campaign("--cases", 160, "--json", tmp_path / "figures.json")
    assert told.returncode == 0, told.stdout + told.stderr[-2000:]
    rows = {row["part"]: row for row in json.loads((tmp_path / "figures.json").read_text())["rows"]}
    for part in ("undamaged", "undamaged_detectors"):
        assert rows[part]["answered"] == rows[part]["cases"]
    assert sum(row.get("refused", 0) for row in rows.values()) > 80
    assert re.search(r"^\d+ cases, 0 failures$", told.stdout, re.M)


def test_work_that_is_interrupted_loses_nothing(tmp_path):
    told = campaign("export", "conversion", "--faults", 6, "--json", tmp_path / "figures.json")
    assert told.returncode == 0, told.stdout + told.stderr[-2000:]
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["part"] for row in rows] == ["export", "conversion"]
