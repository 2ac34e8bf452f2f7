"""Which number format ``precision="auto"`` stands for."""

import pytest
from ferserve_training.precision import resolve_precision


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr("ferserve_training.precision._has_gpu", lambda: False)


def test_bfloat16_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("ferserve_training.precision._has_gpu", lambda: True)
    assert resolve_precision("auto", tmp_path / "none") == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx avx2 fma", "float32"),
        ("flags\t\t: fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags\t\t: fpu amx_bf16 amx_tile", "mixed_bfloat16"),
        ("Features\t: fp asimd bf16 i8mm", "mixed_bfloat16"),
        ("model name\t: a processor of avx512_bf16 fame", "float32"),
    ],
)
def test_bfloat16_where_the_processor_computes_in_it(tmp_path, flags: str, expected: str):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    assert resolve_precision("auto", tmp_path / "cpuinfo") == expected


def test_float32_where_nothing_describes_the_processor(tmp_path):
    assert resolve_precision("auto", tmp_path / "none") == "float32"


def test_a_policy_that_is_named_is_kept(tmp_path):
    assert resolve_precision("mixed_bfloat16", tmp_path / "none") == "mixed_bfloat16"
