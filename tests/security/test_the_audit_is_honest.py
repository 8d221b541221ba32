"""`make audit` says that all is well only where the service was asked about every package, and knew it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
MAIN = HOME / "constraints" / "main.txt"
ADVISORY = {
    "id": "GHSA-0000-0000-0000",
    "summary": "made up",
    "details": "made up",
    "published": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.9"}]}],
        }
    ],
}


@pytest.fixture
def service():
    """A service that speaks OSV and knows one advisory, and how often it was asked."""
    asked = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(query["package"]["name"])
            found = {"vulns": [ADVISORY]} if asked[-1] == "jinja2" else {}
            answer = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    server.shutdown()
    server.server_close()


def audit(*words):
    """Run the tool."""
    command = [sys.executable, HOME / "tools" / "audit.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_what_is_known_is_named(tmp_path, service):
    """With the version in which it is mended; the exit code is 1."""
    (tmp_path / "pins.txt").write_text("jinja2==3.1.0\nmarkupsafe==3.0.2\n")
    done = audit(tmp_path / "pins.txt", "--osv-url", service[0])
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "jinja2 3.1.0: GHSA-0000-0000-0000, fixed in 3.1.9\n"


def test_every_pin_is_asked_about(tmp_path, service):
    """Of our own list, too; and only then all is well."""
    pins = [
        pin for pin in MAIN.read_text().splitlines() if "==" in pin and not pin.lower().startswith("jinja2=")
    ]
    pinned = sorted(re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in pins)
    (tmp_path / "pins.txt").write_text("\n".join(pins))
    done = audit(tmp_path / "pins.txt", "--osv-url", service[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(service[1]) == pinned
    assert done.stdout == f"no known vulnerability in {len(pinned)} packages\n"


def test_a_service_that_is_not_there_is_no_good_news(tmp_path, free_port):
    """One line says what to do; the exit code is another one than that of a finding."""
    (tmp_path / "pins.txt").write_text("markupsafe==3.0.2\n")
    done = audit(tmp_path / "pins.txt", "--osv-url", f"http://127.0.0.1:{free_port}/v1/query")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "needs the network" in done.stderr


def test_packages_that_were_skipped_are_no_good_news(capsys):
    """As pip-audit skips all of them where a proxy answers 404 to everything, and calls that a success."""
    from tools.audit import tell

    told = [{"name": f"p{n}", "skip_reason": "not found on PyPI"} for n in range(7)]
    assert tell([*told, {"name": "x", "version": "1", "vulns": []}], "") == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "of 8 packages 7 could not be asked about: p0, p1, p2, p3, p4 and 2 more" in said.err
