"""What ``import ferserve`` gives, and the blocking methods over the asynchronous ones."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import ferserve
import httpx
import numpy as np
import pytest
from ferserve import AsyncClient, Client, Refusal
from ferserve.api.problems import problem_of
from ferserve.client import Retries
from ferserve.errors import RateLimited, UndecodableImage
from ferserve.inputs import as_bytes
from ferserve.interface import AsyncInterface, Interface, each
from ferserve.schemas import ProblemDetails
from in_process import queued


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import ferserve", {"fastapi", "onnxruntime", "httpx", "pydantic"}),
        ("from ferserve import Refusal", {"fastapi", "onnxruntime", "httpx", "pydantic"}),
        ("from ferserve import AsyncClient, Client", {"fastapi", "onnxruntime"}),
        ("from ferserve import AsyncRecognizer, Recognizer, Settings", {"fastapi", "httpx"}),
    ],
)
def test_a_name_is_loaded_on_first_use_without_what_the_others_need(code, absent):
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not absent & set(shown.stdout.split())


def test_every_public_name_is_there():
    assert all(getattr(ferserve, name).__name__ == name for name in ferserve.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Recogniser'"):
        _ = ferserve.Recogniser


class Waiting(AsyncInterface):
    """Never answers; notes how it was left."""

    def __init__(self) -> None:
        self.asked = self.cleaned_up = self.closed = False

    async def _recognize_file(self, data, options):
        self.asked = True
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 20)
        except asyncio.CancelledError:
            await asyncio.to_thread(lambda: None)  # such as to cancel a benchmark
            self.cleaned_up = True
            raise

    async def models(self):
        raise NotImplementedError

    async def close(self) -> None:
        self.closed = True


async def test_an_error_of_the_images_is_raised_as_it_is():
    def images():
        yield b""
        raise FileNotFoundError("photo.jpg")

    waiting = Waiting()
    with pytest.raises(FileNotFoundError, match=r"photo\.jpg"):
        await waiting.recognize_many(images())
    assert waiting.cleaned_up


class Echo(Waiting):
    """Answers with the bytes it was given."""

    async def _recognize_file(self, data, options):
        return data


async def test_a_source_may_reuse_a_picture_for_the_next_one():
    class Camera(list):  # a collection is asked for all that may be under way at once
        def __iter__(self):
            frame = np.empty((8, 8), np.uint8)
            for level in range(3):
                frame[:] = level
                yield frame

    expected = [as_bytes(np.full((8, 8), level, np.uint8)) for level in range(3)]
    assert await Echo().recognize_many(Camera()) == expected


async def test_images_of_an_unknown_number_may_say_that_they_have_a_length():
    class Wrapped:  # a generator, by tqdm
        def __iter__(self):
            return iter([b"", b""])

        def __len__(self):
            return None

    told = []
    await Echo().recognize_many(Wrapped(), progress=lambda *numbers: told.append(numbers))
    assert told == [(1, None), (2, None)]


@pytest.mark.parametrize("place", ["images", "progress"])
def test_the_program_can_be_ended_from_the_images_and_from_progress(place):
    def images():
        yield b""
        if place == "images":
            sys.exit("enough")

    def progress(*_):
        if place == "progress":
            sys.exit("enough")

    with Interface(Echo()) as blocking:
        with pytest.raises(SystemExit, match="enough"):
            blocking.recognize_many(images(), progress=progress)
        assert blocking.recognize(b"still there") == b"still there"
    with pytest.raises(RuntimeError, match="closed"):
        blocking.recognize(b"")


def test_an_object_that_is_dropped_leaves_no_thread(standin_models):
    before = threading.active_count()
    ferserve.Recognizer(ferserve.Settings(models_dir=standin_models))
    assert threading.active_count() <= before


async def test_the_errors_of_many_images_hold_no_image():
    class Refusing(Waiting):
        async def _recognize_file(self, data, options):
            try:
                raise ValueError("the decoder's words")
            except ValueError as error:
                raise UndecodableImage("damaged") from error

    (error,) = await Refusing().recognize_many([b"image"])
    assert (str(error), str(error.__cause__)) == ("damaged", "the decoder's words")
    assert error.__traceback__ is error.__cause__.__traceback__ is None  # frames hold the image


async def test_a_fault_among_many_images_can_be_found_by_its_traceback():
    class Faulty(Waiting):
        async def _recognize_file(self, data, options):
            return {}["bug"]

    (error,) = await Faulty().recognize_many([b"image"])
    assert error.__traceback__


@pytest.fixture
def _interruptible():
    """Processes that are started in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("hand_over_seconds", [0.0, 0.2])
def test_an_interrupted_call_puts_right_what_it_began(hand_over_seconds, monkeypatch):
    waiting = Waiting()
    with Interface(waiting) as blocking:
        hand_over = blocking._loop.call_soon_threadsafe

        def slowly(*args):
            hand_over(*args)
            time.sleep(hand_over_seconds)

        async def interrupted(data, options):
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C would
            await recognize(data, options)

        recognize = waiting._recognize_file
        monkeypatch.setattr(waiting, "_recognize_file", interrupted)

        monkeypatch.setattr(blocking._loop, "call_soon_threadsafe", slowly)
        with pytest.raises(KeyboardInterrupt):
            blocking.recognize(b"")
        assert waiting.cleaned_up
    assert waiting.closed


def test_a_call_that_another_thread_closes_says_so():
    blocking = Interface(Waiting())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(blocking.recognize, b"")
        while not blocking._asynchronous.asked:
            time.sleep(0.01)
        blocking.close()
        with pytest.raises(RuntimeError, match="closed by another thread during the call"):
            call.result(10)


def test_a_call_that_comes_as_the_loop_ends_says_so(monkeypatch):
    blocking = Interface(Waiting())

    def too_late(*_) -> None:
        monkeypatch.undo()
        blocking.close()

    def ask() -> None:
        with pytest.raises(RuntimeError, match="closed by another thread during the call"):
            blocking.recognize(b"")

    monkeypatch.setattr(blocking._loop, "call_soon_threadsafe", too_late)
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert not asking.is_alive()


def test_a_callback_that_waits_for_its_own_loop_is_an_error():
    class Quick(Waiting):
        async def _recognize_file(self, data, options):
            return None

    with Interface(Quick()) as blocking, pytest.raises(RuntimeError, match="from a callback"):
        blocking.recognize_many([b""], progress=lambda *_: blocking.recognize(b""))


def test_who_leaves_does_not_wait_for_a_silent_source():
    talk, ended = threading.Event(), []

    def silent():
        ended.append(talk.wait(10))
        yield

    async def leave():
        async with asyncio.timeout(0.05):
            async for _ in each(silent()):
                pass

    with pytest.raises(TimeoutError):
        asyncio.run(leave())
    assert not talk.is_set()
    assert not ended
    talk.set()


async def test_an_iterable_that_may_block_is_asked_in_a_thread():
    def slow():
        yield threading.current_thread()

    assert [thread async for thread in each(slow())] != [threading.main_thread()]
    assert [item async for item in each([1, 2])] == [1, 2]


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_wait_cancels_the_benchmark():
    job = queued()
    methods = []

    def answer(request: httpx.Request) -> httpx.Response:
        methods.append(request.method)
        return httpx.Response(200, content=job.model_dump_json())

    def interrupt(_: object) -> None:
        if methods == ["POST", "GET", "GET"]:  # the main thread waits by now
            os.kill(os.getpid(), signal.SIGINT)

    with Client(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(KeyboardInterrupt):
            client.benchmark(progress=interrupt)
        assert methods == ["POST", "GET", "GET", "DELETE"]


async def test_a_wait_that_is_cut_short_ends_so_where_the_service_is_gone():
    job = queued()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=job.model_dump_json())

    once = Retries(total_seconds=0)
    async with AsyncClient(transport=httpx.MockTransport(answer), retries=once) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.benchmark()


async def test_a_rate_limit_does_not_end_the_wait_for_a_benchmark():
    job = queued().model_dump_json()
    problem = problem_of(RateLimited("too many"), ProblemDetails, "/v1/benchmark/1", "1")
    answers = [
        httpx.Response(202, content=job),
        httpx.Response(429, content=problem.model_dump_json(), headers={"Retry-After": "0"}),
        httpx.Response(200, content=job.replace('"queued"', '"succeeded"')),
    ]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    once = Retries(total_seconds=0)
    async with AsyncClient(transport=transport, retries=once) as client:
        assert (await client.benchmark()).status == "succeeded"


FORKED = """
import os, sys, httpx
from ferserve import Client
client = Client(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
if not (child := os.fork()):
    try:
        client.models()
    except RuntimeError as error:
        print(error, flush=True)
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
def test_after_a_fork_a_call_is_an_error_and_the_process_ends():
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    forked = subprocess.run(program, capture_output=True, text=True, timeout=30)
    *_, said, status = forked.stdout.splitlines()
    assert said.startswith("made before a fork")
    assert status == "3"


async def test_headers_of_the_caller_go_with_the_key():
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(404)

    own = {"X-Tenant": "one"}
    transport = httpx.MockTransport(answer)
    async with AsyncClient(api_key="a-key", headers=own, transport=transport) as client:
        with pytest.raises(Refusal):
            await client.models()
    assert (sent[0]["X-Tenant"], sent[0]["Authorization"]) == ("one", "Bearer a-key")


@pytest.mark.parametrize(
    "made", ["Recognizer(Settings(models_dir=sys.argv[1]))", "Client('http://localhost:9')"]
)
def test_a_program_ends_that_closes_nothing(standin_models, made):
    program = f"import sys; from ferserve import Client, Recognizer, Settings; kept = {made}"
    command = [sys.executable, "-c", program, standin_models]
    assert subprocess.run(command, timeout=60).returncode == 0
