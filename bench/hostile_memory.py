"""What hostile requests cost in memory: three rounds of all of them against the real server.

python bench/hostile_memory.py
"""

import sys
from collections import Counter

from load import REPOSITORY, command_line, photo, serving, write_result

sys.path.append(str(REPOSITORY / "tests" / "support"))

from hostile import answer, cases

ALLOWED_MEGABYTES = 50


def main() -> None:
    """Measures and writes the result."""
    options = command_line(__doc__, rounds=3).parse_args()
    requests = cases()
    codes: Counter[str] = Counter()
    with serving(max_upload_bytes=4 * 1024 * 1024) as service:
        port = int(service.url.rpartition(":")[2])
        service.client.post("/v1/emotion", content=photo().data).raise_for_status()
        sizes = [service.resident_mb()]
        for _ in range(options.rounds):
            for case in requests:
                status, _text = answer(port, case.raw, case.silence)
                codes[str(status or "no answer")] += 1
            sizes.append(service.resident_mb())
        after = service.client.post("/v1/emotion", content=photo().data).status_code
    result = {
        "requests_a_round": len(requests),
        "codes": dict(sorted(codes.items())),
        "resident_mb_before_and_after_each_round": sizes,
        "met": {
            "no 5xx": not any(code.startswith("5") for code in codes),
            f"at most {ALLOWED_MEGABYTES} MB more": sizes[-1] - sizes[0] <= ALLOWED_MEGABYTES,
            "still answers": after == 200,
        },
    }
    write_result("hostile_memory", result, options.out)


if __name__ == "__main__":
    main()
