"""The pipeline without HTTP: real photos, the real face detector, a small real model."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from ferserve.errors import (
    DeadlineExceeded,
    InvalidParameter,
    NotReady,
    QueueFull,
    TooManyPixels,
    UnsupportedMediaType,
)
from ferserve.fer2013.labels import EMOTIONS
from ferserve.metrics import Metrics
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import EmotionOptions
from ferserve.sessions import ModelError
from ferserve.settings import Settings
from PIL import Image
from waiting import until


@asynccontextmanager
async def running(models, **settings) -> AsyncIterator[AsyncRecognizer]:
    recognizer = AsyncRecognizer(Settings(models_dir=models, **settings))
    await recognizer.start()
    try:
        yield recognizer
    finally:
        await recognizer.close()


@pytest.fixture
async def recognizer(standin_models) -> AsyncIterator[AsyncRecognizer]:
    async with running(standin_models) as recognizer:
        yield recognizer


def grey(width: int, height: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


async def test_a_face_is_found_and_rated(recognizer, photo):
    seen = await recognizer.answer(photo("astronaut"), EmotionOptions())
    assert seen.model.name == "first"
    assert (seen.image.width, seen.image.height, seen.image.format) == (512, 512, "PNG")
    (face,) = seen.faces
    assert 0.5 <= face.face_confidence <= 1
    assert tuple(face.emotions) == EMOTIONS
    assert sum(face.emotions.values()) == pytest.approx(1, abs=1e-5)
    assert face.confidence == max(face.emotions.values()) == face.emotions[face.dominant_emotion]
    assert face.warnings == []
    timing = seen.timing_ms
    parts = (timing.decode, timing.detect, timing.queue, timing.inference)
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= timing.total


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
async def test_a_photo_without_a_face_is_an_empty_answer(recognizer, photo, name):
    seen = await recognizer.answer(photo(name), EmotionOptions())
    assert seen.faces == []
    assert seen.timing_ms.inference == 0


async def test_a_small_image_is_one_face_already(recognizer, grey_crop):
    seen = await recognizer.answer(grey_crop, EmotionOptions())
    (face,) = seen.faces
    assert face.face_confidence is None
    assert face.box.model_dump() == {"x": 0, "y": 0, "width": 48, "height": 48}


@pytest.mark.parametrize(
    ("size", "detect", "is_one_face"),
    [
        ((64, 64), "auto", True),
        ((64, 65), "auto", False),
        ((64, 64), "true", False),
        ((200, 100), "false", True),
    ],
)
async def test_detect_says_whether_to_look_for_faces(recognizer, size, detect, is_one_face):
    seen = await recognizer.answer(grey(*size), EmotionOptions(detect=detect))
    assert len(seen.faces) == is_one_face


async def test_the_model_can_be_chosen(recognizer, grey_crop):
    first = await recognizer.answer(grey_crop, EmotionOptions(model="first"))
    second = await recognizer.answer(grey_crop, EmotionOptions(model="second"))
    assert second.model.name == "second"
    assert first.faces[0].emotions != second.faces[0].emotions


async def test_landmarks_are_there_only_when_asked_for(recognizer, photo):
    data = photo("astronaut")
    asked = await recognizer.answer(data, EmotionOptions(landmarks=True))
    left_eye, right_eye, nose, left_mouth, right_mouth = asked.faces[0].landmarks
    assert left_eye.x < nose.x < right_eye.x
    assert left_eye.y < nose.y < left_mouth.y
    assert left_mouth.x < right_mouth.x
    unasked = await recognizer.answer(data, EmotionOptions())
    assert "landmarks" not in unasked.model_dump(exclude_unset=True)["faces"][0]


async def test_max_faces_keeps_the_largest(recognizer, photo):
    both = Image.new("RGB", (700, 400))
    for side, x in ((300, 0), (400, 300)):
        both.paste(Image.open(io.BytesIO(photo("astronaut", size=(side, side)))), (x, 0))
    large, small = (await recognizer.recognize(both)).faces
    assert large.box.height > small.box.height
    (only,) = (await recognizer.recognize(both, max_faces=1)).faces
    assert only.box == large.box


async def test_min_face_confidence_leaves_out_unsure_faces(recognizer, photo):
    seen = await recognizer.answer(photo("astronaut"), EmotionOptions(min_face_confidence=1))
    assert seen.faces == []


async def test_max_faces_over_the_services_limit_is_refused(standin_models, grey_crop):
    async with running(standin_models, max_faces=3) as recognizer:
        assert await recognizer.answer(grey_crop, EmotionOptions(max_faces=3))
        with pytest.raises(InvalidParameter, match="at most 3"):
            await recognizer.answer(grey_crop, EmotionOptions(max_faces=4))


async def test_a_face_that_had_to_be_enlarged_carries_a_warning(recognizer):
    small = await recognizer.answer(grey(47, 40), EmotionOptions())
    enough = await recognizer.answer(grey(48, 40), EmotionOptions())
    assert small.faces[0].warnings == ["small_face"]
    assert enough.faces[0].warnings == []


async def test_an_unsure_answer_carries_a_warning(recognizer, grey_crop):
    sure = await recognizer.answer(grey_crop, EmotionOptions(model="first"))
    unsure = await recognizer.answer(grey_crop, EmotionOptions(model="second"))
    assert sure.faces[0].warnings == []
    assert unsure.faces[0].warnings == ["low_confidence"]


async def test_a_face_at_the_border_carries_a_warning(recognizer, photo):
    cut = photo("astronaut", crop=(100, 90, 400, 390))
    seen = await recognizer.answer(cut, EmotionOptions())
    assert seen.faces[0].warnings == ["clipped_face"]


async def test_an_image_over_the_memory_for_decoding_is_refused(standin_models):
    file = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(file, "PNG")
    async with running(standin_models, decode_memory_bytes=4_000_000) as recognizer:
        with pytest.raises(TooManyPixels, match="decoding the image would take"):
            await recognizer.answer(file.getvalue(), EmotionOptions())


async def test_no_image_and_too_large_an_image_are_refused(standin_models, photo):
    async with running(standin_models, max_pixels=512 * 512 - 1) as recognizer:
        with pytest.raises(UnsupportedMediaType):
            await recognizer.answer(b"hello", EmotionOptions())
        with pytest.raises(TooManyPixels):
            await recognizer.answer(photo("astronaut"), EmotionOptions())


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


async def test_it_is_not_ready_while_every_decoder_is_past_its_time(
    standin_models, photo, monkeypatch, gate
):
    def overrun(*_: object) -> None:
        gate.wait(30)
        raise UnsupportedMediaType("it went on")

    monkeypatch.setattr("ferserve.recognizer.usable_cpus", lambda: 1)
    async with running(standin_models, request_timeout_ms=1000) as recognizer:
        monkeypatch.setattr("ferserve.preparation.decode_image", overrun)
        with pytest.raises(DeadlineExceeded):
            await recognizer.answer(photo("astronaut"), EmotionOptions(), seconds=0.1)
        assert recognizer.not_ready_reason is None  # for all we know the caller was impatient
        await until(lambda: recognizer.not_ready_reason == "every decoder is overdue")
        with pytest.raises(QueueFull):
            await recognizer.answer(photo("astronaut"), EmotionOptions())
        gate.set()
        await until(lambda: recognizer.not_ready_reason is None)


async def test_what_is_closed_while_it_starts_does_not_become_ready(standin_models, monkeypatch):
    recognizer = AsyncRecognizer(Settings(models_dir=standin_models))
    warm, begun = threading.Event(), threading.Event()
    monkeypatch.setattr("ferserve.models.Model.warm_up", lambda _: begun.set() or warm.wait(30))
    starting = asyncio.create_task(recognizer.start())
    await until(begun.is_set)
    await recognizer.close()
    warm.set()
    await starting
    assert recognizer.not_ready_reason == "the service is stopped"
    with pytest.raises(NotReady):
        await recognizer.start()
    with pytest.raises(NotReady):
        await recognizer.answer(grey(48, 48), EmotionOptions())


async def test_images_together_are_answered_as_alone(recognizer, photo):
    sides = range(200, 520, 20)
    images = [photo("astronaut", size=(side, side)) for side in sides]
    alone = [await recognizer.answer(image, EmotionOptions()) for image in images]
    together = await asyncio.gather(
        *(recognizer.answer(image, EmotionOptions()) for image in images)
    )
    for one, other in zip(alone, together, strict=True):
        assert [face.box for face in one.faces] == [face.box for face in other.faces]
        for face, same in zip(one.faces, other.faces, strict=True):
            assert face.emotions == pytest.approx(same.emotions, abs=1e-5)


async def test_more_images_than_the_limit_are_refused_and_the_others_answered(
    standin_models, photo
):
    async with running(standin_models, max_queue=4, max_faces=4) as recognizer:
        data = photo("astronaut")
        answers = await asyncio.gather(
            *(recognizer.answer(data, EmotionOptions()) for _ in range(10)),
            return_exceptions=True,
        )
        refused = [answer for answer in answers if isinstance(answer, QueueFull)]
        assert len(refused) == 6
        assert all(len(answer.faces) == 1 for answer in answers if answer not in refused)
        assert await recognizer.answer(data, EmotionOptions())


def native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


async def test_the_settings_of_inference_and_detection_hold(recognizer, standin_models, photo):
    async def threads(intra_op_threads: int) -> int:
        async with running(standin_models, intra_op_threads=intra_op_threads):
            return native_threads()

    assert await threads(3) > await threads(1)
    metrics = Metrics()
    settings = Settings(models_dir=standin_models, max_batch=2, detect_max_side=64)
    async with AsyncRecognizer(settings, metrics) as limited:
        await limited.rate("first", [np.zeros((48, 48), np.uint8)] * 40)
        at_64 = await limited.answer(photo("astronaut"), EmotionOptions())
    at_640 = await recognizer.answer(photo("astronaut"), EmotionOptions())
    assert at_64.faces[0].box != at_640.faces[0].box
    labels = {"model": "first", "lane": "live"}
    sizes = [
        metrics.registry.get_sample_value(f"ferserve_batch_faces_{name}", labels | limit)
        for name, limit in (("bucket", {"le": "2.0"}), ("count", {}))
    ]
    assert sizes[0] == sizes[1] >= 20


async def test_a_batch_is_answered_where_one_image_may_wait(standin_models, photo):
    async with running(standin_models, max_queue=1, max_faces=1) as recognizer:
        answers = await recognizer.answer_many([photo("astronaut")] * 4, EmotionOptions())
    assert [len(answer.faces) for answer in answers] == [1] * 4


async def test_readiness_follows_the_life_of_the_service(standin_models, grey_crop):
    recognizer = AsyncRecognizer(Settings(models_dir=standin_models))
    assert recognizer.not_ready_reason == "the service is starting"
    with pytest.raises(NotReady, match="starting"):
        await recognizer.answer(grey_crop, EmotionOptions())
    await recognizer.start()
    assert recognizer.not_ready_reason is None
    recognizer.begin_drain()
    assert recognizer.not_ready_reason == "the service is shutting down"
    assert await recognizer.answer(grey_crop, EmotionOptions())
    await recognizer.close()
    with pytest.raises(NotReady, match="stopped"):
        await recognizer.answer(grey_crop, EmotionOptions())


async def test_closing_answers_what_was_taken(standin_models, photo):
    recognizer = AsyncRecognizer(Settings(models_dir=standin_models))
    await recognizer.start()
    data = photo("astronaut", size=(128, 128))
    work = asyncio.create_task(recognizer.answer(data, EmotionOptions(detect="false")))
    await asyncio.sleep(0)
    await recognizer.close()
    assert len((await work).faces) == 1


async def test_it_closes_though_others_go_on_asking(standin_models, grey_crop):
    recognizer = AsyncRecognizer(Settings(models_dir=standin_models))
    await recognizer.start()

    async def ask() -> None:
        with suppress(NotReady):
            while True:
                await recognizer.answer(grey_crop, EmotionOptions())

    asking = [asyncio.create_task(ask()) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await recognizer.close()
    await asyncio.gather(*asking)


async def test_a_folder_without_models_is_refused(tmp_path, standin_models):
    detector = standin_models / "face_detector.onnx"
    (tmp_path / "face_detector.onnx").symlink_to(detector)
    with pytest.raises(ModelError, match="holds no model"):
        AsyncRecognizer(Settings(models_dir=tmp_path))


async def test_a_folder_without_the_face_detector_is_refused(tmp_path, write_standin):
    write_standin(tmp_path, "alone")
    with pytest.raises(ModelError, match="face detector"):
        AsyncRecognizer(Settings(models_dir=tmp_path))


async def test_a_default_model_that_is_not_there_is_refused(standin_models):
    with pytest.raises(ModelError, match="first, second"):
        AsyncRecognizer(Settings(models_dir=standin_models, default_model="third"))
