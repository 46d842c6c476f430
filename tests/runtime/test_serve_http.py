"""The HTTP server of the documents, asked over a real connection."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from exports import NAMES, exported, jpeg, same
from images import photo

from gluon_effnets.runtime import load

pytestmark = pytest.mark.fast
SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "serve_http.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("serve_http", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("export"), license="CC0")


@pytest.fixture(scope="module")
def server(example, description):
    server = example.Server(load(description, threads=1), port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(server, method, path="/", body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_an_image_gets_its_classes(server):
    content = jpeg(photo(1), 6)
    status, answer = ask(server, "POST", body=content)
    expected = server.net.top(content)
    assert status == 200 and [found["name"] for found in answer["classes"]] == [name for name, _ in expected]
    assert all(same(found["probability"], p) for found, (_, p) in zip(answer["classes"], expected))
    assert len(ask(server, "POST", "/?top=2", content)[1]["classes"]) == 2
    assert len(ask(server, "POST", "/?top=99", content)[1]["classes"]) == len(NAMES)


def test_many_clients_at_once_get_the_answers_to_their_own_images(server):
    contents, answers = [jpeg(photo(seed)) for seed in range(12)], {}

    def client(number):
        answers[number] = ask(server, "POST", "/?top=1", contents[number])[1]["classes"][0]["probability"]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(answers[number], server.net.top(contents[number], 1)[0][1]) for number in range(12))


def test_the_network_says_what_it_is(server):
    assert ask(server, "GET") == (200, {"model": "idle_tiny", "classes": 7, "license": "CC0"})


@pytest.mark.parametrize(
    "method, path, body, headers, status, part",
    [
        ("POST", "/", b"no image", (), 415, "is no readable image"),
        ("POST", "/", b"", (), 415, "is no readable image"),
        ("POST", "/", jpeg(photo(1))[:-30], (), 415, "is no readable image"),
        ("POST", "/?top=0", b"x", (), 400, "at least 1"),
        ("POST", "/?top=x", b"x", (), 400, "whole numbers"),
        ("POST", "/", b"", {"Content-Length": "x"}, 400, "whole numbers"),
        ("POST", "/", b"x", {"Content-Length": str(1 << 40)}, 413, "an image may have 20,971,520 bytes"),
        ("POST", "/other", b"x", (), 404, "only /"),
        ("GET", "/etc/passwd", None, (), 404, "only /"),
    ],
)
def test_what_cannot_be_answered_is_refused(method, path, body, headers, status, part, server):
    found, answer = ask(server, method, path, body, headers)
    assert found == status and part in answer["error"]


def test_a_body_of_unknown_length_and_one_that_breaks_off(server):
    for head, status in ((b"", b"411"), (b"Content-Length: 9\r\n", b"400")):
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            connection.sendall(b"POST / HTTP/1.0\r\n" + head + b"\r\nabc")
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").readline().split()[1] == status


def test_a_silent_client_is_left(server, example, monkeypatch):
    monkeypatch.setattr(example.Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.sendall(b"POST / HTTP/1.0\r\nContent-Length: 9\r\n\r\n")
        assert connection.makefile("rb").read() == b""


def test_the_script_serves(description, tmp_path):
    command = [sys.executable, str(SCRIPT), str(description), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/?top=1", jpeg(photo(3)))
        assert json.loads(connection.getresponse().read())["classes"][0]["name"] in NAMES
        connection.close()
    finally:
        process.terminate()
        process.communicate()
    done = subprocess.run([*command[:2], str(tmp_path / "absent.onnx")], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: no ONNX file at")
