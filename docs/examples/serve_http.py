"""A small HTTP server of an exported network: python serve_http.py NET.onnx [--port 8080]

    curl --data-binary @cat.jpg http://localhost:8080/          the five likeliest classes
    curl --data-binary @cat.jpg 'http://localhost:8080/?top=1'  the likeliest
    curl --data-binary @street.jpg 'http://localhost:8080/?score=0.5'  what a detector finds with such scores, or higher
    curl http://localhost:8080/                                 what the network is

It needs gluon_effnets.runtime alone: Python, NumPy, Pillow and ONNX Runtime. Put a proxy that speaks TLS before it, if
others than yourself shall reach it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from gluon_effnets.runtime import Detector, load

MOST_BYTES = 20 << 20  # of an image
PATIENCE_S = 20  # how long a client may be silent


class Server(ThreadingHTTPServer):
    """Answers with the classes of images that are sent to it.

    Args:
        net: From `gluon_effnets.runtime.load`.
        host, port: Where it listens; port 0: any free one.
    """

    daemon_threads = True

    def __init__(self, net, host: str = "127.0.0.1", port: int = 8080):
        super().__init__((host, port), Handler)
        self.net = net
        # Decoded images are large: more of them at a time than processors would fill the memory and gain nothing.
        self.at_once = threading.BoundedSemaphore(os.cpu_count() or 1)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    timeout = PATIENCE_S
    server: Server

    def do_GET(self) -> None:
        """Say what the network is."""
        facts = self.server.net.facts
        about = {"model": facts.model, "classes": facts.num_classes, "license": facts.license}
        self._answer(200, about) if urlsplit(self.path).path == "/" else self._refuse(404, "there is only /")

    def do_POST(self) -> None:
        """Classify the image in the body."""
        where = urlsplit(self.path)
        if where.path != "/":
            return self._refuse(404, "there is only /")
        try:
            asked = {key: values[0] for key, values in parse_qs(where.query).items()}
            top, score = int(asked.get("top", "5")), float(asked.get("score", "0.3"))
            length = int(self.headers.get("Content-Length", "-1"))
        except ValueError:
            return self._refuse(400, "top and Content-Length must be whole numbers, score a number")
        if top < 1:
            return self._refuse(400, "top must be at least 1")
        if length < 0:
            return self._refuse(411, "Content-Length is missing")
        if length > MOST_BYTES:
            return self._refuse(413, f"an image may have {MOST_BYTES:,} bytes, not {length:,}")
        encoded = self.rfile.read(length)
        if len(encoded) < length:
            return self._refuse(400, f"{len(encoded):,} bytes came, not the {length:,} that were announced")
        try:
            with self.server.at_once:
                answer = _answer_of(self.server.net, encoded, top, score)
        except OSError as error:
            return self._refuse(415, str(error))
        except Exception as error:
            self.log_error("%s", error)
            return self._refuse(500, "the network failed; the server's log says why")
        self._answer(200, answer)

    def _refuse(self, status: int, reason: str) -> None:
        # What is left of the body is not read, so that nothing can follow on this connection.
        self.close_connection = True
        self._answer(status, {"error": reason})

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode("utf-8") + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _answer_of(net, encoded: bytes, top: int, score: float) -> dict:
    if isinstance(net, Detector):
        rows = []
        for found in net(encoded, score):
            rows.append({"name": found.name, "score": round(found.score, 6), "box": [round(x, 2) for x in found.box]})
        return {"objects": rows}
    return {"classes": [{"name": name, "probability": round(p, 6)} for name, p in net.top(encoded, top)]}


def main() -> int:
    """Serve until the process is interrupted."""
    parser = argparse.ArgumentParser(description="Serve an exported network over HTTP.")
    parser.add_argument("model", metavar="NET.onnx|NET.json")
    parser.add_argument("--host", default="127.0.0.1", help="Default: 127.0.0.1, this machine alone.")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--threads", type=int, help="Threads of ONNX Runtime for each image.")
    args = parser.parse_args()
    try:
        server = Server(load(args.model, args.threads), args.host, args.port)
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on http://{args.host}:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()


if __name__ == "__main__":
    sys.exit(main())
