"""The Python client against the real server."""

import asyncio
import io
import itertools
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from ferserve import AsyncClient, Client, Recognizer, Refusal, Settings, errors
from ferserve.client import Retries, StreamClosed
from ferserve.schemas import StreamAnswer, StreamProblem
from PIL import Image, ImageChops
from synthetic_fer2013 import write_zip

MODELS = Path(__file__).resolve().parents[2] / "models"
KEY = "a-key-of-the-client"
ONCE = Retries(total_seconds=0)


@pytest.fixture(scope="module")
def client(server) -> Iterator[Client]:
    with Client(server.base_url) as client:
        yield client


@pytest.fixture
async def async_client(server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.base_url) as client:
        yield client


@pytest.fixture(scope="module")
def astronaut(photo) -> bytes:
    return photo("astronaut", format="JPEG")


@pytest.fixture(scope="module")
def film(astronaut) -> list[Image.Image]:
    picture = Image.open(io.BytesIO(astronaut))
    return [ImageChops.offset(picture, 20 * number, 0) for number in range(6)]


@pytest.fixture(scope="module")
def recognizer() -> Iterator[Recognizer]:
    """Of this process, as the server's."""
    with Recognizer(Settings(models_dir=MODELS, default_model="custom_cnn")) as recognizer:
        yield recognizer


# The same words in process and over HTTP


def test_the_same_images_have_the_same_answers(client, recognizer, astronaut, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(astronaut)
    picture = Image.open(path)
    for image in (path, str(path), astronaut, picture, np.asarray(picture)):
        over_http, here = client.recognize(image), recognizer.recognize(image)
        assert over_http.faces == here.faces
        assert (over_http.model, over_http.image) == (here.model, here.image)
    assert client.models() == recognizer.models()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, errors.UnsupportedMediaType),
        ({"model": "nobody"}, errors.UnknownModel),
        ({"detect": "perhaps"}, errors.InvalidParameter),
        ({"max_faces": 0}, errors.InvalidParameter),
        ({"max_faces": 1000}, errors.InvalidParameter),
        ({"colour": "red"}, errors.InvalidParameter),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.code,
)
def test_the_same_faults_are_refused_in_the_same_words(client, recognizer, options, kind):
    refusals = []
    for one in (client, recognizer):
        with pytest.raises(kind) as refused:
            one.recognize(b"text", **options)
        refusals.append(refused.value)
    over_http, here = refusals
    assert (over_http.status, over_http.code) == (here.status, here.code)
    assert over_http.detail == here.detail
    assert over_http.request_id
    assert not here.request_id


# Images


def test_options_reach_the_service(client, astronaut):
    options = {"landmarks": True, "detect": "true", "min_face_confidence": 0.2, "max_faces": None}
    answer = client.recognize(astronaut, **options)
    assert len(answer.faces[0].landmarks) == 5
    assert answer.faces[0].dominant_emotion == "happy"
    assert client.recognize(astronaut, detect="false").faces[0].face_confidence is None
    assert answer.model.name == "custom_cnn"


async def test_both_clients_get_the_same(client, async_client, astronaut):
    expected = client.recognize(astronaut).faces
    assert (await async_client.recognize(astronaut)).faces == expected


def check_many(answers: list, steps: list[tuple[int, int | None]]) -> None:
    good, cat, text, missing = answers
    assert [len(good.faces), len(cat.faces)] == [1, 0]
    assert isinstance(text, Refusal)
    assert text.code == "unsupported_media_type"
    assert isinstance(missing, FileNotFoundError)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_many_images_come_back_in_order_each_with_its_answer(
    client, async_client, recognizer, astronaut, photo
):
    images = [astronaut, photo("chelsea"), b"text", "missing.jpg"]
    steps: list[tuple[int, int | None]] = []

    def note(done: int, total: int | None) -> None:
        steps.append((done, total))

    for one in (client, recognizer):
        check_many(one.recognize_many(images, concurrency=2, progress=note), steps)
        steps.clear()
    check_many(await async_client.recognize_many(images, concurrency=2, progress=note), steps)


async def test_images_of_a_generator_are_taken_as_there_is_room(client, async_client, grey_crop):
    taken = 0

    def images() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(9):
            taken += 1
            yield grey_crop

    most: list[int] = []

    def note(done: int, total: int | None) -> None:
        assert total is None
        most.append(taken - done)

    assert len(client.recognize_many(images(), concurrency=3, progress=note)) == 9
    taken = 0
    assert len(await async_client.recognize_many(images(), concurrency=3, progress=note)) == 9
    assert max(most) <= 4  # three under way, and one that waits for a place


# Problems


async def test_a_problem_carries_all_that_the_service_said(client, async_client):
    with pytest.raises(Refusal) as refused:
        client.recognize(b"text")
    problem = refused.value
    assert (problem.status, problem.code) == (415, "unsupported_media_type")
    assert problem.detail
    assert problem.request_id
    with pytest.raises(errors.UnknownModel):
        await async_client.recognize(b"text", model="nobody")


async def test_a_service_that_is_not_there_is_an_error_after_a_while():
    short = Retries(total_seconds=0.5, first_pause=0.01)
    with Client("http://127.0.0.1:1", retries=short) as client:
        with pytest.raises(httpx.ConnectError):
            client.models()
        with pytest.raises(OSError):  # noqa: PT011 - its words are the system's
            list(client.stream([]))
    async with AsyncClient("http://127.0.0.1:1", retries=ONCE) as client:
        with pytest.raises(httpx.ConnectError):
            await client.models()


async def test_a_peer_that_ends_the_handshake_is_an_error_of_the_system():
    peer = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = peer.sockets[0].getsockname()[1]
    async with peer, AsyncClient(f"http://127.0.0.1:{port}", retries=ONCE) as client:
        with pytest.raises(ConnectionError):
            await anext(client.stream([]))


async def test_a_refused_stream_says_how_long_to_wait(start_server, tmp_path, grey_crop):
    with start_server(tmp_path / "log", rate_limit="1/year") as server:
        async with AsyncClient(server.base_url, retries=ONCE) as client:
            await client.recognize(grey_crop)
            with pytest.raises(errors.RateLimited) as refused:
                await anext(client.stream([grey_crop]))
    assert int(refused.value.headers["Retry-After"]) > 60  # more than any other refusal asks for


async def test_a_key_and_patience_with_the_rate_limit(start_server, tmp_path, grey_crop):
    with start_server(tmp_path / "log", api_keys=KEY, rate_limit="4/second") as server:
        with Client(server.base_url, api_key=KEY) as client:
            answers = client.recognize_many([grey_crop] * 10)
            assert [len(answer.faces) for answer in answers] == [1] * 10
        with Client(server.base_url, api_key=KEY, retries=ONCE) as client:
            answers = client.recognize_many([grey_crop] * 10)
            codes = {answer.code for answer in answers if isinstance(answer, Refusal)}
            assert codes == {"rate_limited"}
        async with AsyncClient(server.base_url) as client:
            with pytest.raises(errors.Unauthorized):
                await client.models()
            with pytest.raises(errors.Unauthorized):
                async for _ in client.stream([grey_crop]):
                    pass


async def test_a_service_that_dies_and_comes_back_loses_nothing(start_server, tmp_path, astronaut):
    with start_server(tmp_path / "first") as first:
        begun = asyncio.Event()

        def note(done: int, _: int | None) -> None:
            if done == 5:
                begun.set()

        patient = Retries(total_seconds=300)
        async with AsyncClient(first.base_url, retries=patient) as client:
            asking = asyncio.create_task(
                client.recognize_many([astronaut] * 20, concurrency=4, progress=note)
            )
            await asyncio.wait_for(begun.wait(), 60)
            first.process.kill()  # in the middle of four requests
            first.process.wait()

            def again() -> None:
                with start_server(tmp_path / "second", port=first.port):
                    assert finished.wait(60)

            finished = threading.Event()
            second = asyncio.create_task(asyncio.to_thread(again))
            answers = await asking
            finished.set()
            await second
    assert [len(answer.faces) for answer in answers] == [1] * 20


# Streams


def check_film(answers: list) -> None:
    assert [answer.frame for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert {answer.faces[0].track for answer in answers} == {1}
    assert answers[-1].dropped == 0
    places = [answer.faces[0].box.x for answer in answers]
    assert places == sorted(places)


async def test_a_stream_answers_every_frame(client, async_client, film):
    check_film(list(client.stream(iter(film), max_faces=1)))
    check_film([answer async for answer in async_client.stream(film, max_faces=1)])


async def test_a_live_stream_drops_what_comes_too_fast(client, async_client, astronaut):
    frames = [astronaut] * 30
    for answers in (
        list(client.stream(frames, live=True)),
        [answer async for answer in async_client.stream(frames, live=True)],
    ):
        assert len(answers) < 30
        assert answers[-1].frame == len(answers) + answers[-1].dropped == 30


async def test_a_bad_frame_is_answered_among_the_others(client, async_client, astronaut):
    frames = [astronaut, b"text", astronaut]
    for answers in (
        list(client.stream(frames)),
        [answer async for answer in async_client.stream(frames)],
    ):
        assert [type(answer) for answer in answers] == [StreamAnswer, StreamProblem, StreamAnswer]
        assert answers[1].problem.code == "unsupported_media_type"


async def test_an_error_of_the_frames_is_raised(client, async_client, astronaut):
    def frames() -> Iterator[bytes]:
        yield astronaut
        raise LookupError("the film tore")

    with pytest.raises(LookupError, match="tore"):
        list(client.stream(frames()))
    with pytest.raises(LookupError, match="tore"):
        async for _ in async_client.stream(frames()):
            pass


def test_frames_may_end_the_program(client, astronaut):
    def frames() -> Iterator[bytes]:
        yield astronaut
        sys.exit("the camera is gone")

    with pytest.raises(SystemExit, match="the camera is gone"):
        list(client.stream(frames()))
    assert client.models().models  # it can still be used


async def test_a_stream_can_be_left(client, async_client, astronaut):
    for answer in client.stream([astronaut] * 100):
        assert answer.frame == 1
        break
    stream = async_client.stream([astronaut] * 100)
    async for answer in stream:
        assert answer.frame == 1
        break
    await stream.aclose()
    assert client.models().models  # both are at rest


async def test_a_stream_that_the_service_ends_is_an_error(start_server, tmp_path, astronaut):
    with start_server(tmp_path / "log") as server, Client(server.base_url) as client:
        with pytest.raises(errors.UnknownModel):
            list(client.stream([], model="nobody"))
        answers = client.stream(itertools.cycle([astronaut]))
        next(answers)
        server.process.terminate()
        with pytest.raises(StreamClosed) as closed:
            list(answers)
        assert closed.value.code == 1012


# Benchmarks


async def test_a_wait_that_is_interrupted_cancels_the_benchmark(start_server, tmp_path):
    faces = write_zip(tmp_path / "fer2013.zip", train=300)
    with start_server(tmp_path / "log", dataset=faces) as server:
        running = asyncio.Event()
        async with AsyncClient(server.base_url) as client:
            waiting = asyncio.create_task(
                client.benchmark(split="train", progress=lambda _: running.set())
            )
            await asyncio.wait_for(running.wait(), 60)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            (job,) = (await http.get("/v1/benchmark")).json()["jobs"]
    assert job["status"] == "cancelled"


def test_a_benchmark_without_a_data_set_is_a_problem(client):
    with pytest.raises(errors.DatasetNotConfigured):
        client.benchmark()
