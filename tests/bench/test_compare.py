"""The comparison: what fails is named and costs nothing else; goals say what was shown."""

import json
import os

from compare import CASES, Case, goals, measure_round
from ferserve.fer2013.labels import EMOTIONS
from ferserve.settings import installed_models
from load import face
from peers.common import Classifier, decode
from peers.registry import OWN_PROGRAMS, PEERS, Peer

MODEL = installed_models() / "custom_cnn.onnx"

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
address = ("127.0.0.1", int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


def peer(name: str, script: str, answer: str = "") -> Peer:
    return Peer(
        name=name,
        title=name.title(),
        command=("{bin}/python", "-c", "import os; exec(os.environ['SCRIPT'])"),
        path="/",
        ready="/",
        environment=lambda port, _cores: {"SCRIPT": script, "ANSWER": answer, "PORT": port},
    )


def test_a_service_that_fails_is_named_and_costs_the_others_nothing(monkeypatch):
    monkeypatch.setattr("load.STOP_SECONDS", 0.5)  # jobs in the background ignore SIGINT
    (right,) = Classifier(MODEL)([decode(face().data)])
    services = [
        peer("broken", "print('no such luck')"),
        peer("wrong", SERVER, json.dumps(dict.fromkeys(EMOTIONS, 1 / 7))),
        peer("mad", SERVER, "no JSON"),
        peer("right", SERVER, json.dumps(right)),
    ]
    case = Case("faces", "custom_cnn", "faces", face(), 2, 1, with_latency=False)
    found = {"bare": [], "runs": {}, "failed": {}}
    programs = dict.fromkeys(services, OWN_PROGRAMS)
    measure_round(case, programs, sorted(os.sched_getaffinity(0)), 0.5, found)

    assert list(found["failed"]) == ["broken", "wrong", "mad"]
    assert found["failed"]["broken"] == ["not ready: no such luck"]
    assert "answers otherwise than the bare runtime: angry" in found["failed"]["wrong"][0]
    (measured,) = found["runs"]["right"]
    assert measured["saturation"]["requests_per_second"] > 0
    assert measured["saturation"]["cpu_seconds_per_face"] > 0
    assert not measured["saturation"]["errors"]
    assert found["bare"][0]["faces_per_second"] > 0


def test_every_peer_is_pinned_and_sends_the_face_it_is_given():
    for each in PEERS:
        pin = "==" if each.installer == "pip" else "@"
        assert all(requirement.rpartition(pin)[0] for requirement in each.requirements)
        assert each.versions()[each.name]
        assert each.body(face()).data
    assert {case.model for case in CASES} <= {file.stem for file in MODEL.parent.glob("*.onnx")}


def loads(p50: float, p99: float, rate: float = 100, cpu: float = 0.01) -> dict:
    measured = {
        "requests_per_second": rate,
        "latency_ms": {"p50": p50, "p99": p99},
        "cpu_seconds_per_face": cpu,
        "resident_mb": 123.4,
        "errors": {},
        "faults": [],
    }
    return {name: dict(measured) for name in ("saturation", "alone", "half", "same_rate")}


def faces_case(**peers: dict) -> dict:
    runs = {"ferserve": [loads(5, 10)], **{name: [run] for name, run in peers.items()}}
    bare = [{"faces_per_second": 120, "cpu_seconds_per_face": 0.009}]
    return {"faces": {"words": "faces", "bare": bare, "runs": runs, "failed": {}}}


def missed(cases: dict) -> list[str]:
    return [goal for goal, met in goals(cases).items() if not met]


def test_a_slower_peer_with_a_higher_p99_leaves_all_goals_met():
    assert missed(faces_case(ray=loads(5, 11, rate=70))) == []


def test_a_peer_that_is_faster_or_has_a_lower_p99_is_told():
    assert missed(faces_case(litserve=loads(5, 9, rate=101))) == [
        "more requests a second than every peer",
        "half or same load: no peer has a lower p99",
    ]


def test_a_failure_and_a_late_generator_are_told():
    cases = faces_case()
    cases["photos"] = {"bare": [], "runs": {}, "failed": {"ferserve": ["gone"]}}
    assert missed(cases) == ["nothing failed, no errors"]
    cases = faces_case()
    cases["faces"]["runs"]["ferserve"][0]["half"]["faults"] = ["the generator lagged"]
    assert missed(cases) == ["every measurement valid"]


def test_what_was_not_measured_meets_no_goal():
    cases = faces_case()
    cases["faces"] |= {
        "bare": [],
        "runs": {"ferserve": [{"saturation": loads(5, 9)["saturation"]}]},
    }
    assert missed(cases) == [
        "processor time a face at most 1.25 x the bare runtime's",
        "half load: p99 at most 3 x the p50 of a lone request",
        "half or same load: no peer has a lower p99",
    ]
    assert missed({}) == ["nothing failed, no errors"]


def test_photos_are_held_against_packages():
    runs = {name: [loads(40, 80, rate=60)] for name in ("ferserve", "human")}
    cases = {"photos": {"bare": [], "runs": runs, "failed": {}}}
    assert missed(cases) == ["3 x the photos of every package"]
    runs |= {"human": [loads(40, 80, rate=20)]}
    assert missed(cases) == []


def test_faces_are_held_against_the_custom_cnn():
    heavy = {"bare": [], "runs": {"ferserve": [loads(20, 40, rate=26)]}, "failed": {}}
    assert missed(faces_case() | {"custom_cnn": heavy}) == ["4 x the faces of the Custom CNN"]
    heavy["runs"]["ferserve"] = [loads(20, 40, rate=25)]
    assert missed(faces_case() | {"custom_cnn": heavy}) == []
