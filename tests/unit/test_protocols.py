"""An answer's head leaves with its body, and never waits for one that does not come."""

import asyncio

from ferserve.api.protocols import JoinedHead

HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"{}"


class Recorder:
    """A transport that keeps what is written, a list for each system call."""

    def __init__(self) -> None:
        self.written: list[list[bytes]] = []

    def write(self, data: bytes) -> None:
        self.written.append([data])

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.written.append(list(parts))

    def close(self) -> None:
        self.written.append(["closed"])


async def written(*steps: str | bytes) -> list[list[bytes]]:
    recorder = Recorder()
    joined = JoinedHead(recorder, asyncio.get_running_loop())
    for step in steps:
        if step == "turn":
            await asyncio.sleep(0)
        elif step == "close":
            joined.close()
        else:
            joined.write(step)
    return recorder.written


async def test_a_head_and_its_body_are_written_at_once():
    assert await written(HEAD, BODY, "turn", BODY) == [[HEAD, BODY], [BODY]]


async def test_a_head_alone_goes_in_the_same_turn_of_the_loop():
    assert await written(HEAD, "turn", BODY) == [[HEAD, b""], [BODY]]


async def test_a_head_goes_before_the_connection_is_closed():
    assert await written(HEAD, "close", "turn") == [[HEAD, b""], ["closed"]]
