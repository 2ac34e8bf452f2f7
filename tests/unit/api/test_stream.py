"""How ``WS /v1/emotion/stream`` ends, in this process; the rest is in tests/e2e."""

import pytest
from asgi_socket import connected
from ferserve import streaming
from in_process import serving

PATH = "/v1/emotion/stream"


@pytest.mark.parametrize(
    ("limit", "code", "reason"), [("IDLE_SECONDS", 4408, "idle"), ("MAX_SECONDS", 4410, "too_long")]
)
async def test_a_stream_is_ended_in_time(standin_models, monkeypatch, limit, code, reason):
    monkeypatch.setattr(streaming, limit, 0.3)
    async with serving(standin_models) as client:
        async with connected(client.app, PATH) as stream:
            assert await stream.message() == {"end": {"received": 0, "answered": 0, "dropped": 0}}
            assert (await stream.closed())[0] == code
        page = (await client.get("/metrics")).text
    assert f'ferserve_streams_total{{reason="{reason}"}} 1.0' in page
    assert "ferserve_streams_open 0.0" in page


async def test_after_the_end_was_announced_no_stream_begins(standin_models):
    async with serving(standin_models) as client:
        client.app.state.streams.begin_close()
        async with connected(client.app, PATH) as stream:
            refusal = await stream.message()
            assert (refusal["problem"]["code"], refusal["retry_after"]) == ("not_ready", 5)
            assert await stream.closed() == (4503, "not_ready")


async def test_a_fault_of_ours_closes_with_1011(standin_models, grey_crop, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("ferserve.api.stream._message", fail)
    async with serving(standin_models) as client:
        async with connected(client.app, PATH) as stream:
            stream.send(grey_crop)
            assert (await stream.closed())[0] == 1011
        page = (await client.get("/metrics")).text
    assert "a stream failed" in caplog.text
    assert 'ferserve_streams_total{reason="failed"} 1.0' in page
    assert 'ferserve_stream_frames_total{outcome="dropped"} 1.0' in page


async def test_frames_give_their_memory_back(standin_models, grey_crop):
    async with serving(standin_models) as client:
        async with connected(client.app, PATH) as stream:
            stream.send(grey_crop)
            assert (await stream.message())["frame"] == 1
            stream.send(b"no image")
            assert (await stream.message())["problem"]["code"] == "unsupported_media_type"
        assert client.app.state.upload_budget.held == 0


async def test_a_slash_at_the_end_of_the_path_changes_nothing(standin_models, grey_crop):
    async with serving(standin_models) as client, connected(client.app, f"{PATH}/") as stream:
        stream.send(grey_crop)
        assert (await stream.message())["frame"] == 1
