"""Completion in a shell: what is offered, and that no other call pays for it."""

import argparse
import os
import subprocess
import sys
from types import ModuleType

import pytest

from gluon_effnets import list_models
from gluon_effnets.__main__ import main
from gluon_effnets.commands.completion import SHELLS

pytestmark = pytest.mark.fast


@pytest.fixture
def asked(monkeypatch):
    """A shell that asks, and an argcomplete that keeps the parser."""
    seen = []
    stand_in = ModuleType("argcomplete")
    stand_in.autocomplete = seen.append
    monkeypatch.setitem(sys.modules, "argcomplete", stand_in)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    return seen


def offered(parser, *words):
    """What an argument is completed to, given the words of its command, its name and what was typed of it."""
    *commands, argument, prefix = words
    for word in commands:
        (inner,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = inner.choices[word]
    (action,) = (action for action in parser._actions if action.dest == argument)
    return action.completer(prefix, parsed_args=None)


def test_names_are_completed(asked, capsys):
    with pytest.raises(SystemExit):  # argcomplete ends the process before
        main([])
    (parser,) = asked
    assert offered(parser, "info", "name", "mobilenext_x") == list_models("mobilenext_x*")
    assert "ssdlite320_mobilenext_x1_0" in offered(parser, "train", "model", "ssdlite320_m")
    assert offered(parser, "benchmark", "latency", "names", "idle_mbv3_m") == list_models("idle_mbv3_m*")
    assert offered(parser, "recipes", "name", "own_") == offered(parser, "train", "config", "own_")
    assert "digits" in offered(parser, "experiment", "name", "")
    assert offered(parser, "list", "family", "idle") == ["idle"]
    assert offered(parser, "claims", "paper", "ds") == ["dsnet"]


def test_no_other_call_pays_for_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    monkeypatch.setattr("gluon_effnets.commands.completion._name_arguments", None)
    monkeypatch.delenv("_ARGCOMPLETE", raising=False)
    assert main(["list", "idle_mbv3"]) == 0
    monkeypatch.setenv("_ARGCOMPLETE", "1")  # without the package, this is an ordinary call, too
    assert main(["list", "idle_mbv3"]) == 0


@pytest.mark.parametrize("shell", SHELLS)
def test_the_lines_for_a_shell(shell, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--completion", shell])
    install, line = capsys.readouterr().out.splitlines()
    assert caught.value.code == 0 and "argcomplete" in install and "gluon-effnets" in line


def test_argcomplete_itself_completes_a_name(tmp_path):
    pytest.importorskip("argcomplete")
    line, told = "gluon-effnets info mobilenext_x1", tmp_path / "told"
    environment = {**os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(told), "COMP_LINE": line}
    environment.update(COMP_POINT=str(len(line)), _ARGCOMPLETE_IFS="\n", COMP_TYPE="9")
    code = "import sys; sys.argv[0] = 'gluon-effnets'; from gluon_effnets.__main__ import main; main()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert told.read_text().split() == list_models("mobilenext_x1*")
