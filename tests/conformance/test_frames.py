"""What no client would send: the protocol's own error, nothing leaked, and the server alive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from suite import served
from wire import ENVELOPE, HELLO, INITIALIZED, Http, Stdio, request

PARSE, INVALID, UNKNOWN, PARAMS = -32700, -32600, -32601, -32602
LEAKS = ("Traceback", "site-packages", "pydantic", "validation error", "/home", "/tmp", "/work")
HUGE = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + b"x" * (9 << 20) + b'"}}'

# A frame, the code of the error, and the id that the answer bears.
FRAMES: dict[str, tuple[object, int, Any]] = {
    "no JSON": (b"hello", PARSE, None),
    "cut off": (b'{"jsonrpc":"2.0","id":1', PARSE, None),
    "two values": (b'{"jsonrpc":"2.0","id":1,"method":"ping"} {}', PARSE, None),
    "no UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', PARSE, None),
    "half a surrogate": (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', PARSE, None),
    "no number": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}', PARSE, None),
    "a number of 5,000 digits": (b'{"id":' + b"1" * 5000 + b"}", PARSE, None),
    "deep lists": (b"[" * 100_000, PARSE, None),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, PARSE, None),
    "empty": ({}, INVALID, None),
    "a string": (b'"ping"', INVALID, None),
    "a batch": ([request(1, "ping")], INVALID, None),
    "an empty batch": ([], INVALID, None),
    "another jsonrpc": ({"jsonrpc": "1.0", "id": 8, "method": "ping"}, INVALID, 8),
    "no jsonrpc": ({"id": "a", "method": "ping"}, INVALID, "a"),
    "id null": (request(None, "ping"), INVALID, None),
    "id a fraction": (request(1.5, "ping"), INVALID, None),
    "id a boolean": (request(True, "ping"), INVALID, None),
    "id an object": (request({}, "ping"), INVALID, None),
    "method a number": (request(9, 7), INVALID, 9),  # type: ignore[arg-type]
    "params a list": (request(10, "ping", [1]), PARAMS, 10),
    "neither request nor response": ({"jsonrpc": "2.0", "id": 11}, INVALID, None),
    "an unknown method": (request(12, "no/such"), UNKNOWN, 12),
    "a call without a name": (request(13, "tools/call", {}), PARAMS, 13),
    "a name that is no string": (request(14, "tools/call", {"name": 7}), PARAMS, 14),
    "an unknown prompt": (request(15, "prompts/get", {"name": "zz"}), PARAMS, 15),
    "an unknown resource": (request(16, "resources/read", {"uri": "x:y"}), PARAMS, 16),
}


@pytest.fixture(scope="module")
def stdio() -> Iterator[Stdio]:
    with Stdio() as server:
        yield server.initialize()


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with served(()) as url, Http(f"{url}everything") as connection:
        yield connection.initialize()


def harmless(found: dict[str, Any], code: int, number: Any) -> None:
    assert found["error"]["code"] == code
    assert found["id"] == number
    assert not [leak for leak in LEAKS if leak in json.dumps(found)]


@pytest.mark.parametrize("frame", FRAMES)
def test_over_stdio_a_bad_frame_is_answered_with_its_error(stdio: Stdio, frame: str) -> None:
    sent, code, number = FRAMES[frame]
    stdio.send(sent, request("after", "ping"))
    harmless(stdio.receive(), code, number)
    assert stdio.receive() == {"jsonrpc": "2.0", "id": "after", "result": {}}


@pytest.mark.parametrize("frame", FRAMES)
def test_over_http_a_bad_frame_is_answered_with_its_error(http: Http, frame: str) -> None:
    sent, code, number = FRAMES[frame]
    status, found = http.answer(sent)
    # A request that a session took answers on its stream, which has begun by then.
    assert status == (400 if code in {PARSE, INVALID} or frame == "params a list" else 200)
    harmless(found, code, number)
    assert http.answer(request("after", "ping"))[1]["result"] == {}


def test_a_huge_frame_is_refused_and_the_next_one_answered(stdio: Stdio, http: Http) -> None:
    stdio.send(HUGE, request("after", "ping"))
    harmless(stdio.receive(), INVALID, None)
    assert stdio.receive()["id"] == "after"
    assert http.post(HUGE).status_code == 413
    assert http.answer(request("after", "ping"))[1]["result"] == {}


def test_what_is_cancelled_may_never_have_been(stdio: Stdio, http: Http) -> None:
    for number in (99, "no such", None, [1], {}, 1.5):
        params = {"requestId": number, "reason": "?"}
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        stdio.send(cancelled)
        assert http.post(cancelled).status_code == 202
    stdio.send(request("after", "ping"))
    assert stdio.receive()["id"] == "after"


def test_responses_to_nothing_are_passed_over(stdio: Stdio, http: Http) -> None:
    for found in ({"result": {}}, {"error": {"code": 1, "message": "x"}}):
        response = {"jsonrpc": "2.0", "id": 77, **found}
        stdio.send(response)
        assert http.post(response).status_code == 202
    stdio.send(request("after", "ping"))
    assert stdio.receive()["id"] == "after"


def slow(number: Any) -> dict[str, Any]:
    return request(number, "tools/call", {"name": "slow_compute", "arguments": {"seconds": 0.7}})


def test_over_stdio_an_id_that_is_in_flight_is_refused_and_the_first_answered(
    stdio: Stdio,
) -> None:
    stdio.send(slow(5), request("5", "ping"))
    harmless(stdio.receive(), INVALID, "5")
    assert stdio.answer(5)["result"]["content"][0]["text"].startswith("computed")
    stdio.send(request(5, "ping"))
    assert stdio.answer(5)["result"] == {}


def test_over_http_an_id_that_is_in_flight_is_refused_and_the_first_answered(http: Http) -> None:
    with ThreadPoolExecutor() as pool:
        # Whichever comes second is the refused one.
        answers = list(pool.map(http.answer, [slow(5), slow(5)]))
    (_, first), (status, second) = sorted(answers, key=lambda one: one[0])
    assert first["result"]["content"] and status == 400
    harmless(second, INVALID, 5)


def test_a_cancelled_call_frees_its_id(stdio: Stdio) -> None:
    params = {"requestId": 6}
    stdio.send(slow(6), {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
    stdio.send(request(6, "ping"))
    assert stdio.answer(6)["result"] == {}


def test_an_answer_that_is_no_utf_8_is_written_as_far_as_it_can_be(
    stdio: Stdio, http: Http
) -> None:
    call = request(20, "tools/call", {"name": "name_of_bytes", "arguments": {}})
    stdio.send(call)
    for found in (stdio.answer(20), http.answer(call)[1]):
        assert found["result"]["content"][0]["text"] == "caf?.txt"


def test_calls_before_initialize_are_refused_and_it_still_works() -> None:
    with Stdio() as server:
        server.send(request(1, "tools/list"), request(2, "no/such"), request(3, "ping"))
        answers = {one["id"]: one for one in (server.receive() for _ in range(3))}
        harmless(answers[1], PARAMS, 1)
        harmless(answers[2], UNKNOWN, 2)
        assert answers[3]["result"] == {}
        assert server.initialize().end() == 0


def test_over_http_there_is_no_session_before_initialize(http: Http) -> None:
    with Http(http.url) as other:
        status, found = other.answer(request(1, "tools/list"))
        assert status == 400 and found["error"]["code"] == INVALID
        status, found = other.answer(request(1, "tools/list"), **{"mcp-session-id": "made-up"})
        assert status == 404
    assert not [leak for leak in LEAKS if leak in json.dumps(found)]


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp-method": "tools/call"},
        {"mcp-method": "tools/list", "mcp-protocol-version": "2027-01-01"},
        {},
    ],
)
def test_headers_and_a_body_that_disagree_are_refused(http: Http, headers: dict[str, str]) -> None:
    asked = request(1, "tools/list", {"_meta": ENVELOPE})
    with Http(http.url) as other:
        status, found = other.answer(asked, **{"mcp-protocol-version": "2026-07-28", **headers})
    assert status == 400
    assert found["error"]["code"] in {-32020, -32022, INVALID}
    assert not [leak for leak in LEAKS if leak in json.dumps(found)]


def test_a_probe_settles_no_revision() -> None:
    probe = request(0, "server/discover", {"_meta": ENVELOPE})
    with Stdio() as server:
        server.send(probe, request(1, "initialize", HELLO), INITIALIZED)
        assert "2026-07-28" in server.answer(0)["result"]["supportedVersions"]
        assert server.answer(1)["result"]["protocolVersion"] == "2025-11-25"
    with Stdio() as server:
        server.send(probe, request(1, "tools/list", {"_meta": ENVELOPE}))
        assert server.answer(0)["result"]["capabilities"]
        assert server.answer(1)["result"]["resultType"] == "complete"
        server.send(request(2, "initialize", HELLO))
        harmless(server.answer(2), -32022, 2)
