"""How workers come together, with a table of keys as horovodrun has one, and what is told of those that do not come."""

from __future__ import annotations

import http.server
import threading

import pytest
from waiting import PATIENCE_S, wait_until

from gluon_effnets.train import meeting as module
from gluon_effnets.train.exit_codes import WORKER_LOST
from gluon_effnets.train.meeting import meeting

pytestmark = pytest.mark.fast


class Keys(http.server.BaseHTTPRequestHandler):
    keys: set = set()

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.add(self.path)
        self.answer(200)

    def do_GET(self):
        self.answer(200 if self.path in self.keys else 404)

    def answer(self, code):
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def environment():
    """Of worker 0 of three on one host."""
    Keys.keys = set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = {"ADDR": "127.0.0.1", "PORT": str(server.server_port)}
        keys = {f"HOROVOD_GLOO_RENDEZVOUS_{name}": value for name, value in names.items()}
        yield {**keys, "HOROVOD_RANK": "0", "HOROVOD_SIZE": "3", "HOROVOD_LOCAL_SIZE": "3"}
        server.shutdown()


@pytest.fixture
def left(monkeypatch):
    """The exit codes of what leaves the process."""
    codes: list = []
    monkeypatch.setattr(module.os, "_exit", codes.append)
    return codes


def test_who_does_not_come_is_named_by_the_first_that_waits(environment, left, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GLUON_EFFNETS_VERDICT", str(tmp_path / "verdict"))
    with meeting({**environment, "HOROVOD_RANK": "2"}, timeout_s=PATIENCE_S):
        pass
    with meeting(dict(environment), timeout_s=0.1):
        wait_until(lambda: left)
    told = capsys.readouterr().err
    assert left == [WORKER_LOST] and (tmp_path / "verdict").read_text() == str(WORKER_LOST)
    assert "error: worker 1 (" in told and "has not come to the others within 0.1 s" in told
    assert "worker 0" not in told and "worker 2" not in told
    with meeting({**environment, "HOROVOD_RANK": "2"}, timeout_s=0.1):
        wait_until(lambda: len(left) == 2)
    assert capsys.readouterr().err == "", "one message for all"


def test_the_time_that_horovodrun_was_given_counts_and_horovod_has_far_more(environment, left):
    given = {**environment, "HOROVOD_GLOO_TIMEOUT_SECONDS": str(PATIENCE_S)}
    with meeting(given, timeout_s=0.01):
        assert not threading.Event().wait(0.3)
    assert left == [] and int(given["HOROVOD_GLOO_TIMEOUT_SECONDS"]) > 100 * PATIENCE_S


def test_without_anyone_to_ask(left, capsys):
    with meeting({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"}, timeout_s=0.1):
        wait_until(lambda: left)
    assert "one that worker 1 waits for has not come" in capsys.readouterr().err
