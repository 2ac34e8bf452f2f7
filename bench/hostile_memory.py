"""What hostile requests cost in memory: three rounds of all of them against the real server.

    python bench/hostile_memory.py

Writes ``bench/results/hostile_memory.json``; ends with status 1 where a request got a 5xx, or where
the process is more than 50 MB larger after the third round than after its first good answer.
"""

import collections
import sys

from load import REPOSITORY, described, photo, resident_megabytes, serving, write_result

sys.path.append(str(REPOSITORY / "tests" / "support"))

from hostile import answer, cases

ROUNDS = 3
ALLOWED_MEGABYTES = 50


def main() -> None:
    """Measures and writes the result."""
    requests = cases()
    codes: collections.Counter[str] = collections.Counter()
    with serving(max_upload_bytes=4 * 1024 * 1024) as server:
        server.client.post("/v1/emotion", content=photo()).raise_for_status()
        sizes = [resident_megabytes(server)]
        for _ in range(ROUNDS):
            for case in requests:
                status, _text = answer(server.port, case.raw, case.silence)
                codes[str(status or "no answer")] += 1
            sizes.append(resident_megabytes(server))
        answers_after = server.client.post("/v1/emotion", content=photo()).status_code
    met = {
        "no 5xx": not any(code.startswith("5") for code in codes),
        f"at most {ALLOWED_MEGABYTES} MB more": sizes[-1] - sizes[0] <= ALLOWED_MEGABYTES,
        "still answers": answers_after == 200,
    }
    write_result(
        "hostile_memory",
        {
            **described(),
            "requests_a_round": len(requests),
            "codes": dict(sorted(codes.items())),
            "resident_mb_before_and_after_each_round": sizes,
            "met": met,
        },
    )


if __name__ == "__main__":
    main()
