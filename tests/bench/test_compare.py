"""The comparison: what fails costs nothing else, and it keeps to its time."""

import json
import os
import sys
import time
from argparse import Namespace
from pathlib import Path

import compare
import pytest
from compare_cases import Faces
from compare_time import BARE_SETTINGS, SECONDS
from ferserve.fer2013.labels import EMOTIONS
from peers import measuring
from peers.measuring import Bench, bare_answer
from peers.registry import PEERS, Peer, Variant
from peers.service_process import ServiceFailed, running

MODEL = compare.installed_models() / "custom_cnn.onnx"
PROGRAMS = Path(sys.executable).parent

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(b"")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(os.environ["ANSWER"].encode())
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
address = ("127.0.0.1", int(os.environ["PEER_PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


def peer(name: str, script: str, answer: str = "") -> tuple[Peer, Path]:
    variant = Variant("as it is", {"ANSWER": answer, "SCRIPT": script})
    run_it = "import os; exec(os.environ['SCRIPT'])"
    command = ("{programs}/python", "-c", run_it)
    return Peer(name, name.title(), (), command, "/", "/", lambda _: (variant,)), PROGRAMS


@pytest.fixture
def bench(monkeypatch, tmp_path) -> Bench:
    monkeypatch.setattr(measuring, "WARM_UP_SECONDS", 0.2)
    return Bench(tuple(sorted(os.sched_getaffinity(0))), 1, 1.0, tmp_path)


def test_a_service_that_fails_is_named_and_costs_the_others_nothing(bench):
    services = [
        peer("broken", "print('no such luck')"),
        peer("wrong", SERVER, json.dumps(dict.fromkeys(EMOTIONS, 1 / 7))),
        peer("mad", SERVER, "no JSON"),
        peer("right", SERVER, json.dumps(bare_answer(MODEL))),
    ]
    result = {}
    case = Faces(bench, MODEL, services, (2,), with_latency=False, result=result)
    states = [list(result["runs"]) for _ in case.measure_round(1)]

    assert states == [[], [], [], [], ["right"]]  # whenever there is something to save
    assert list(result["failed"]) == ["broken", "wrong", "mad"]
    (why,) = result["failed"]["broken"]
    assert why == "custom_cnn, round 1: as it is: not ready: no such luck"
    (why,) = result["failed"]["wrong"]
    assert "answers otherwise than the bare runtime: angry" in why
    (measured,) = result["runs"]["right"]
    assert measured["saturation"]["requests_per_second"] > 0
    assert measured["saturation"]["cpu_seconds_per_face"] > 0
    assert not measured["saturation"]["errors"]
    assert result["bare"][0]["batch"] == result["tuning"]["bare"]["batch"]
    assert len(result["tuning"]["bare"]["tried"]) == BARE_SETTINGS


BUSY = """
import time
while time.process_time() < 1:
    pass
time.sleep(600)
"""

STARTS_BUSY = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {BUSY!r}], start_new_session=True)
"""

LEAVES_BUSY_BEHIND = f"""
import http.server, subprocess, sys
subprocess.run([sys.executable, "-c", {STARTS_BUSY!r}])
address = ("127.0.0.1", int(sys.argv[1]))
http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_process_that_detached_itself_counts_and_ends_with_its_service(bench):
    port = measuring.free_port()
    command = [sys.executable, "-c", LEAVES_BUSY_BEHIND, str(port)]
    with running(command, f"http://127.0.0.1:{port}/", {}, bench.cores) as service:
        assert len(service.processes()) == 2
        before = service.cpu_seconds()
        give_up = time.monotonic() + 60
        while service.cpu_seconds() < before + 0.2 and time.monotonic() < give_up:
            time.sleep(0.1)
        assert service.cpu_seconds() >= before + 0.2
    assert not service.processes()


def test_a_service_that_never_answers_says_what_it_printed(bench):
    command = [sys.executable, "-c", "print('no such luck')"]
    with (
        pytest.raises(ServiceFailed, match="no such luck"),
        running(command, "http://127.0.0.1:9/", {}, bench.cores),
    ):
        pass


def options(**changes) -> Namespace:
    chosen = {"seconds": None, "rounds": 3, "minutes": 30.0, "cases": list(compare.CASES)}
    return Namespace(**chosen | changes)


def test_everything_fits_into_half_an_hour(capsys):
    assert compare.divide_time(options(), PEERS, 2) in SECONDS
    minutes = int(capsys.readouterr().out.removeprefix("about ").split()[0])
    assert 20 <= minutes <= 30


def test_more_time_makes_longer_measurements(capsys):
    lengths = [compare.divide_time(options(minutes=m), PEERS, 2) for m in (15, 30, 60, 120)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_length_that_was_asked_for_is_taken(capsys):
    assert compare.divide_time(options(seconds=2.5), PEERS, 2) == 2.5
