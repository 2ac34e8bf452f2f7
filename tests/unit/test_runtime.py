"""Every way of running a batch gives the same answers; on the CPU, where nothing is captured."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from ferserve.bundle import CPU, CUDA, ModelError, load_bundle
from ferserve.runtime.options import RuntimeOptions, Strategy
from ferserve.runtime.pinned import page_locked
from ferserve.runtime.providers import TENSORRT, provider_list, wanted_provider
from ferserve.runtime.runners import default_strategy
from ferserve.runtime.sessions import Sessions
from in_process import serving

STRATEGIES = get_args(Strategy)
MODELS = Path(__file__).resolve().parents[2] / "models"
SAME = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 48, 48), np.uint8)


@pytest.fixture(scope="module")
def expected(standin_models, faces) -> np.ndarray:
    alone = load_bundle(standin_models, "first", provider="cpu")
    return np.concatenate([alone.predict(faces[i : i + 1]) for i in range(len(faces))])


@pytest.fixture
def open_bundle(standin_models):
    def open_it(**options):
        return load_bundle(standin_models, "first", provider="cpu", **options)

    return open_it


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_alike_whatever_the_batch(open_bundle, faces, expected, strategy):
    bundle = open_bundle(strategy=strategy, max_batch=4)
    bundle.warm_up()
    for count in (1, 3, 4, 9):  # padded, full, and more than the largest
        np.testing.assert_allclose(bundle.predict(faces[:count]), expected[:count], **SAME)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_threads_do_not_disturb_each_other(open_bundle, faces, expected, strategy):
    bundle = open_bundle(strategy=strategy, max_batch=2, workers=2)
    together = threading.Barrier(4)

    def call(number: int) -> None:
        together.wait(60)
        for turn in range(25):
            i = (number + turn) % len(faces)
            np.testing.assert_allclose(
                bundle.predict(faces[i : i + 2]), expected[i : i + 2], **SAME
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))


@pytest.mark.parametrize("strategy", ["bound", "sessions", "graphs"])
def test_an_answer_stays_what_it_was_when_its_buffer_is_used_again(
    open_bundle, faces, expected, strategy
):
    bundle = open_bundle(strategy=strategy, max_batch=2, workers=1)
    first = bundle.predict(faces[:2])
    bundle.predict(faces[2:4])
    np.testing.assert_allclose(first, expected[:2], **SAME)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_real_model_with_its_mirror_images_runs_in_every_way(faces, strategy):
    plain = load_bundle(MODELS, "custom_cnn", provider="cpu").predict(faces[:3])
    options = {"strategy": strategy, "max_batch": 2, "workers": 1}
    bundle = load_bundle(MODELS, "custom_cnn", provider="cpu", **options)
    np.testing.assert_allclose(bundle.predict(faces[:3]), plain, **SAME)


@pytest.mark.parametrize("name", ["custom_cnn", "vgg16", "resnet50v2"])
def test_with_the_batch_size_fixed_no_node_is_left_that_computes_shapes(name, tmp_path):
    # Such nodes run on the CPU, also with CUDA, and a CUDA graph can capture only what is on it.
    settings = ort.SessionOptions()
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    settings.add_free_dimension_override_by_name("N", 4)
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(MODELS / f"{name}.onnx"), settings, ["CPUExecutionProvider"])
    left = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert not left & {"Shape", "Gather", "ConstantOfShape", "Range", "If", "Loop"}


def test_sessions_of_one_size_take_no_other(standin_models, faces):
    content = (standin_models / "first.onnx").read_bytes()
    sessions = Sessions(content, "first.onnx", RuntimeOptions(provider="cpu"))
    session = sessions.open(4)
    assert session.get_inputs()[0].shape == [4, 48, 48]
    with pytest.raises(Exception, match="Got: 9 Expected: 4"):
        session.run(None, {"faces": faces})


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, (1,)), (2, (1, 2)), (12, (1, 2, 4, 8, 12)), (32, (1, 2, 4, 8, 16, 32))],
)
def test_batches_are_prepared_for_in_powers_of_two_and_the_largest(largest, sizes):
    assert RuntimeOptions(max_batch=largest).batch_sizes == sizes


def test_what_a_provider_does_where_nothing_is_asked_for():
    assert [default_strategy(name) for name in (CPU, CUDA, TENSORRT)] == [
        "dynamic",
        "padded",
        "sessions",
    ]


def test_cuda_is_told_what_the_options_ask_for():
    options = RuntimeOptions(
        device_id=1,
        precision="tf32",
        cudnn_conv_algo_search="heuristic",
        conv_layout="nhwc",
        gpu_memory_limit_bytes=2**30,
    )
    (name, told), fallback = provider_list(CUDA, options, capture=True)
    assert (name, fallback) == (CUDA, CPU)
    assert told == {
        "device_id": 1,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": 1,
        "do_copy_in_default_stream": 1,
        "use_tf32": 1,
        "prefer_nhwc": 1,
        "enable_cuda_graph": 1,
        "gpu_mem_limit": 2**30,
    }


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_cuda_uses_no_tf32_unless_asked(precision):
    (_, told), _ = provider_list(CUDA, RuntimeOptions(precision=precision), capture=False)
    assert told["use_tf32"] == 0
    assert told["enable_cuda_graph"] == 0
    assert "gpu_mem_limit" not in told


def test_tensorrt_comes_before_cuda_and_keeps_its_engines_where_it_may(tmp_path):
    options = RuntimeOptions(precision="float16", cache_dir=tmp_path)
    (first, told), (second, cuda), last = provider_list(TENSORRT, options, capture=True)
    assert (first, second, last) == (TENSORRT, CUDA, CPU)
    assert told["trt_fp16_enable"] == told["trt_cuda_graph_enable"] == 1
    assert told["trt_engine_cache_path"] == str(tmp_path)
    assert cuda["enable_cuda_graph"] == 0
    (_, told), *_ = provider_list(TENSORRT, RuntimeOptions(), capture=False)
    assert "trt_engine_cache_enable" not in told


@pytest.mark.skipif(TENSORRT in ort.get_available_providers(), reason="this build has TensorRT")
def test_tensorrt_that_is_not_there_is_an_error(open_bundle, standin_models):
    with pytest.raises(ModelError, match="without TensorRT"):
        load_bundle(standin_models, "first", provider="tensorrt", precision="float16")


def test_tf32_is_refused_on_the_cpu(open_bundle):
    with pytest.raises(ModelError, match="tf32 is there on NVIDIA's GPUs only"):
        open_bundle(precision="tf32")


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this build has CUDA")
def test_auto_means_the_cpu_without_cuda():
    assert wanted_provider(RuntimeOptions()) == CPU


def test_memory_is_zeroed_and_writable_with_or_without_cuda():
    memory = page_locked((2, 3))
    assert (memory == 0).all()
    memory[1] = 7
    assert memory.sum() == 21
    assert memory.flags.c_contiguous


async def test_the_service_runs_batches_as_it_is_set(standin_models, grey_crop):
    answers = []
    for strategy in (None, "graphs"):
        async with serving(standin_models, batch_strategy=strategy, max_batch=2) as client:
            answer = await client.post(
                "/v1/emotion", content=grey_crop, headers={"Content-Type": "image/png"}
            )
            answers.append(answer.json()["faces"][0]["emotions"])
    assert answers[1] == pytest.approx(answers[0], abs=1e-5)
