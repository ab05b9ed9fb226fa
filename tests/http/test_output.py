"""The output of tasks over HTTP."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from agentd.config import Limits
from tests.written import written

from .conftest import Serve
from .talk import Api, Event, until


@pytest.fixture
async def digits(api: Api) -> str:
    """A task that wrote ten digits."""
    return str((await api.run("printf 0123456789"))["task_id"])


@pytest.mark.parametrize(
    ("given", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=99-100", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("bytes=\uff11-\uff12", 200, b"0123456789", None),  # digits, but not HTTP's
    ],
)
async def test_a_range_is_served_or_refused_as_http_says(
    api: Api, digits: str, given: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    answer = await api.ask("GET", f"/tasks/{digits}/output", headers={"Range": given})
    assert answer.status == status
    assert answer.headers.get("Content-Range") == content_range
    if body is None:
        assert answer.code == "range_not_satisfiable"
    else:
        assert answer.body == body
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Accept-Ranges"] == "bytes"


async def test_a_range_holds_only_while_the_output_is_the_same(api: Api, digits: str) -> None:
    etag = (await api.ask("GET", f"/tasks/{digits}/output")).headers["ETag"]
    same = await api.ask("GET", f"/tasks/{digits}/output", headers={"Range": "bytes=0-1", "If-Range": etag})
    assert (same.status, same.body) == (206, b"01")
    other = await api.ask("GET", f"/tasks/{digits}/output", headers={"Range": "bytes=0-1", "If-Range": '"x"'})
    assert other.status == 200
    assert (await api.ask("GET", f"/tasks/{digits}/output", headers={"If-None-Match": etag})).status == 304


async def test_the_streams_can_be_told_apart(api: Api) -> None:
    task = (await api.run(f"echo one; {written(4)}; echo two >&2; {written(8)}; echo three"))["task_id"]
    assert (await api.ask("GET", f"/tasks/{task}/output")).body == b"one\ntwo\nthree\n"
    assert (await api.ask("GET", f"/tasks/{task}/output?stream=out")).body == b"one\nthree\n"
    assert (await api.ask("GET", f"/tasks/{task}/output?stream=err")).body == b"two\n"
    part = await api.ask("GET", f"/tasks/{task}/output?stream=out", headers={"Range": "bytes=4-"})
    assert (part.status, part.body) == (206, b"three\n")
    assert (await api.ask("GET", f"/tasks/{task}/output?stream=both")).code == "malformed"


async def test_bytes_come_back_as_they_were_written(api: Api) -> None:
    task = (await api.run(r"printf '\377\000\033[31mred\r\n'; head -c 3000000 /dev/zero"))["task_id"]
    body = (await api.ask("GET", f"/tasks/{task}/output")).body
    assert body == b"\xff\x00\x1b[31mred\r\n" + bytes(3_000_000)


async def test_an_attempt_that_is_not_there_is_named(api: Api, digits: str) -> None:
    for path in ("output?attempt=2", "output/lines?attempt=2", "stream?attempt=2"):
        answer = await api.ask("GET", f"/tasks/{digits}/{path}")
        assert (answer.status, answer.code) == (422, "invalid")
    assert (await api.ask("GET", f"/tasks/{digits}/output?attempt=0")).code == "malformed"


async def test_output_that_is_not_there_yet_is_empty(api: Api) -> None:
    await api.start("sleep 30", session_id="s")
    queued = (await api.ask("POST", "/sessions/s/task", {"spec": {"command": "true"}})).json["task_id"]
    answer = await api.ask("GET", f"/tasks/{queued}/output")
    assert (answer.status, answer.body) == (200, b"")
    assert (await api.ask("GET", f"/tasks/{queued}/output", headers={"Range": "bytes=0-"})).status == 416


async def test_lines_come_in_windows(api: Api) -> None:
    task = (await api.run("seq 1 1000"))["task_id"]
    window = await api.get(f"/tasks/{task}/output/lines?line=500&count=2")
    assert [(each["line"], each["text"]) for each in window["lines"]] == [(500, "500"), (501, "501")]
    assert (window["total_lines"], window["ended"]) == (1000, True)
    tail = await api.get(f"/tasks/{task}/output/lines?line=-2")
    assert [each["text"] for each in tail["lines"]] == ["999", "1000"]
    assert (await api.ask("GET", f"/tasks/{task}/output/lines?line=0")).fields.keys() == {"line"}
    assert (await api.ask("GET", f"/tasks/{task}/output/lines?count=1001")).fields.keys() == {"count"}


async def test_each_stream_has_lines_of_its_own(api: Api) -> None:
    task = (await api.run(f"printf 'on'; {written(2)}; echo two >&2; {written(6)}; printf 'e\\nthree\\n'"))["task_id"]
    window = await api.get(f"/tasks/{task}/output/lines?stream=out")
    assert [(each["line"], each["offset"], each["text"]) for each in window["lines"]] == [
        (1, 0, "one"),
        (2, 4, "three"),
    ]
    assert (window["total_lines"], window["size"]) == (2, 10)
    found = await api.get(f"/tasks/{task}/output/search?q=o&stream=err")
    assert [(each["line"], each["text"]) for each in found["matches"]] == [(1, "two")]
    answer = await api.ask("GET", f"/tasks/{task}/output/lines?stream=both")
    assert answer.fields == {"stream": "must be one of out, err"}


async def test_a_line_says_when_and_where_it_was_written_if_asked(api: Api) -> None:
    task = await api.run(f"echo one; {written(4)}; echo two >&2")
    plain = (await api.get(f"/tasks/{task['task_id']}/output/lines"))["lines"]
    assert all("at" not in each and "stream" not in each for each in plain)
    detailed = (await api.get(f"/tasks/{task['task_id']}/output/lines?detail=true"))["lines"]
    assert [(each["text"], each["stream"]) for each in detailed] == [("one", "out"), ("two", "err")]
    assert task["started_at"] <= detailed[0]["at"] < detailed[1]["at"] <= task["ended_at"]


async def test_a_line_that_was_cut_is_fetched_whole_by_its_offset_and_length(serve: Serve) -> None:
    api = await serve(Limits(line_bytes=64))
    task = (await api.run("echo before; seq -s, 1 100; echo after"))["task_id"]
    line = (await api.get(f"/tasks/{task}/output/lines?line=2&count=1"))["lines"][0]
    assert (line["truncated"], len(line["text"])) == (True, 64)
    given = f"bytes={line['offset']}-{line['offset'] + line['length'] - 1}"
    whole = await api.ask("GET", f"/tasks/{task}/output", headers={"Range": given})
    assert whole.body.decode() == ",".join(map(str, range(1, 101)))


async def test_a_window_says_the_colours_that_it_begins_in(api: Api) -> None:
    task = (await api.run(r"printf '\033[1;31m'; seq 1 6000; printf '\033[0m\nplain\n'"))["task_id"]
    assert (await api.get(f"/tasks/{task}/output/lines?line=5001&count=1"))["sgr"] == "1;31"
    assert (await api.get(f"/tasks/{task}/output/lines?line=-1"))["sgr"] == ""


async def test_the_whole_of_it_is_searched(api: Api) -> None:
    task = (await api.run("seq 1 1000; echo Done"))["task_id"]
    found = await api.get(f"/tasks/{task}/output/search?q=99&limit=2")
    assert ([each["line"] for each in found["matches"]], found["total"]) == ([99, 199], 19)
    assert (await api.get(f"/tasks/{task}/output/search?q=done"))["total"] == 0
    assert (await api.get(f"/tasks/{task}/output/search?q=done&ignore_case=true"))["total"] == 1
    assert (await api.get(f"/tasks/{task}/output/search?q=99&from_line=991"))["total"] == 9
    assert (await api.ask("GET", f"/tasks/{task}/output/search")).fields.keys() == {"q"}


def joined(events: list[Event]) -> bytes:
    """The bytes that output events carry, checked to follow each other."""
    found = b""
    for event in events:
        if event.type == "output":
            assert event.json["offset"] == len(found)
            found += base64.b64decode(event.json["base64"]) if "base64" in event.json else event.json["text"].encode()
    return found


async def test_a_stream_gives_all_of_it_and_then_the_task(api: Api) -> None:
    task = await api.start(f"echo one; {written(4)}; echo two >&2; {written(8)}; printf three; exit 4")
    async with api.stream(f"/tasks/{task['task_id']}/stream") as stream:
        events = await stream.rest()
    assert events[0].type == "hello"
    assert events[0].json["boot_id"]
    assert joined(events) == b"one\ntwo\nthree"
    assert events[-1].type == "end"
    assert events[-1].json["task"]["cause"]["exit_code"] == 4


async def test_a_stream_waits_for_its_task_to_start(api: Api) -> None:
    blocker = await api.start("sleep 30", session_id="s")
    queued = (await api.ask("POST", "/sessions/s/task", {"spec": {"command": "echo ran"}})).json["task_id"]
    async with api.stream(f"/tasks/{queued}/stream") as stream:
        assert [(await stream.next()).type] == ["hello"]  # type: ignore[union-attr]
        await api.ask("DELETE", f"/tasks/{blocker['task_id']}")
        events = await stream.rest()
    assert joined(events) == b"ran\n"


async def test_a_stream_resumes_at_any_byte(api: Api) -> None:
    task = (await api.run("printf abcdef"))["task_id"]
    async with api.stream(f"/tasks/{task}/stream?offset=2") as stream:
        events = await stream.rest()
    assert [(e.json["offset"], e.json["text"]) for e in events if e.type == "output"] == [(2, "cdef")]
    async with api.stream(f"/tasks/{task}/stream", last_id=events[1].id) as stream:
        assert [event.type for event in await stream.rest()] == ["hello", "end"]
    assert (await api.ask("GET", f"/tasks/{task}/stream", headers={"Last-Event-ID": "x"})).code == "malformed"


async def test_characters_are_whole_and_other_bytes_survive(api: Api, tmp_path: Path) -> None:
    parts = [r"printf '\303'; sleep 0.3; printf '\251 ok'", r"printf '\377\376'", r"printf '\303'"]
    waits = [f"while [ ! -e {tmp_path}/{n} ]; do sleep 0.01; done" for n in (1, 2)]
    task = await api.start("; ".join([parts[0], waits[0], parts[1], waits[1], parts[2]]))
    events: list[Event] = []
    async with api.stream(f"/tasks/{task['task_id']}/stream") as stream:
        for n, size in ((1, 5), (2, 7)):
            while len(joined(events)) < size:
                events += await stream.until("output")
            (tmp_path / str(n)).touch()
        events += await stream.rest()
    assert joined(events) == b"\xc3\xa9 ok\xff\xfe\xc3"
    assert [event.json["text"] for event in events if event.type == "output" and "text" in event.json] == ["é ok"]


async def test_a_stream_goes_on_through_retries(api: Api, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = f"echo $AGENTD_ATTEMPT; while ! [ -e {go} ]; do sleep 0.02; done; exit 1"
    body = {"command": command, "retry": {"max": 1, "backoff_s": 0}}
    task = (await api.ask("POST", "/tasks/shell", body)).json["task_id"]
    async with api.stream(f"/tasks/{task}/stream") as stream:
        await stream.until("hello")  # it begins with the attempt that runs then
        go.touch()
        events = await stream.rest()
    outputs = [(e.json["attempt"], e.json["text"]) for e in events if e.type == "output"]
    assert outputs == [(1, "1\n"), (2, "2\n")]
    assert events[-1].json["task"]["attempt"] == 2
    async with api.stream(f"/tasks/{task}/stream?attempt=1") as stream:
        assert [e.json["text"] for e in await stream.rest() if e.type == "output"] == ["1\n"]


async def test_a_quiet_stream_has_heartbeats(api: Api) -> None:
    task = await api.start("sleep 600")
    async with api.stream(f"/tasks/{task['task_id']}/stream") as stream:
        rest = asyncio.create_task(stream.rest())
        await until(lambda: stream.comments >= 2)
        await api.ask("DELETE", f"/tasks/{task['task_id']}")
        assert (await rest)[-1].json["task"]["state"] == "cancelled"


async def test_streams_end_when_the_daemon_does(api: Api) -> None:
    task = await api.start("sleep 30")
    async with api.stream(f"/tasks/{task['task_id']}/stream") as stream:
        await stream.next()
        await api.stop()
        assert (await stream.rest())[-1].type == "end"
