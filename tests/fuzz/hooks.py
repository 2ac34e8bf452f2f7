"""What the fuzzer must know beside the API's description."""

from typing import Any

import schemathesis

TIMEOUT = "X-Request-Timeout-Ms"


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, Any]
) -> None:
    """Asks for no time in which nobody could answer: 504 is right then, and no fault."""
    asked = str((case.headers or {}).get(TIMEOUT, ""))
    if asked.isascii() and asked.isdecimal() and 1 <= int(asked) < 10_000:
        case.headers[TIMEOUT] = "10000"
