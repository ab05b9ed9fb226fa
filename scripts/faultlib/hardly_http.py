"""Bytes that are hardly HTTP: what attackers, broken clients and other protocols send, and mutants of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

#: What a request hidden in another one would make, if a server took it for one.
HIDDEN = "smuggled"


class Target(NamedTuple):
    """Where to send: the Host, a header that lets one in, and paths of the server."""

    host: str
    authorization: str
    read: str  #: answers a GET with 200
    make: str  #: makes a session of the JSON that is posted there
    upload: str  #: takes any body with PUT


class Case(NamedTuple):
    """What is sent on one connection, piece by piece."""

    name: str
    pieces: tuple[bytes, ...]
    answer: str = ""  #: how the first answer begins (`4`, `200`); empty: any answer but 5xx, or none
    then: str = "read"  #: read, close, reset, or hold: leave it open until the end


def cases(to: Target) -> Iterator[Case]:
    """Each trick once."""
    lead = f"Host: {to.host}\r\nAuthorization: {to.authorization}\r\n".encode()
    get = f"GET {to.read} HTTP/1.1\r\n".encode() + lead + b"\r\n"
    post = f"POST {to.make} HTTP/1.1\r\n".encode() + lead + b"Content-Type: application/json\r\n"
    put = f"PUT {to.upload} HTTP/1.1\r\n".encode() + lead
    body = b'{"session_id": "%s"}' % HIDDEN.encode()
    hidden = post + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def request(line: bytes, *headers: bytes, rest: bytes = b"") -> bytes:
        return b"\r\n".join([line, lead[:-2], *headers, b"", rest])

    line = get[: get.index(b"\r\n")]
    # what comes slowly, or not to its end
    yield Case("the head, a byte at a time", tuple(bytes([byte]) for byte in get), "200")
    for share in (1, 3, len(line), len(get) // 2, len(get) - 1):
        for then in ("close", "reset", "hold"):
            yield Case(f"{share} bytes of a head, then {then}", (get[:share],), "", then)
    for then in ("close", "reset", "hold"):
        yield Case(f"half a body, then {then}", (post + b"Content-Length: 50\r\n\r\n{", b'"title"'), "", then)
        yield Case(f"half a chunk, then {then}", (put + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",), "", then)
        yield Case(
            f"100-continue, then {then}", (put + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",), "", then
        )
        yield Case(f"many requests, then {then}", (get * 200,), "", then)
    yield Case("nothing at all", (), "", "hold")
    yield Case("an expectation nobody knows", (put + b"Content-Length: 1\r\nExpect: 200-maybe\r\n\r\na",), "4")
    # what is too much
    yield Case("a URL of 100 KiB", (request(b"GET /" + b"a" * 102_400 + b" HTTP/1.1"),), "4")
    yield Case("a header of 100 KiB", (request(line, b"X: " + b"a" * 102_400),), "4")
    yield Case("a header's name of 100 KiB", (request(line, b"a" * 102_400 + b": x"),), "4")
    yield Case("1,000 headers", (request(line, *(b"X-%d: x" % n for n in range(1000))),), "4")
    yield Case("a head without end", (line + b"\r\n", *[b"X: " + b"y" * 4000 + b"\r\n"] * 300), "4")
    yield Case(
        "10,000 parameters", (request(b"GET " + to.read.encode() + b"?a=1" + b"&a=1" * 10_000 + b" HTTP/1.1"),), "4"
    )
    # two lengths, and lengths that are none
    for name, headers in {
        "chunks and a length": (b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        "a length and chunks": (b"Transfer-Encoding: chunked", b"Content-Length: 4"),
        "two lengths": (b"Content-Length: 5", b"Content-Length: 0"),
        "two lengths in one": (b"Content-Length: 5, 0",),
        "a length with a sign": (b"Content-Length: +5",),
        "a length below nothing": (b"Content-Length: -1",),
        "a length in words": (b"Content-Length: five",),
        "a length with a fraction": (b"Content-Length: 5.0",),
        "a length in hexadecimal": (b"Content-Length: 0x5",),
        "a length of 2^64": (b"Content-Length: 18446744073709551616",),
        "a length with a space in it": (b"Content-Length: 1 0",),
        "an encoding nobody knows": (b"Transfer-Encoding: xchunked",),
        "chunks that are not last": (b"Transfer-Encoding: chunked, identity",),
        "chunks twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        "chunks with a tab": (b"Transfer-Encoding:\x0bchunked",),
        "a space before the colon": (b"Transfer-Encoding : chunked",),
        "a folded encoding": (b"Transfer-Encoding:\r\n chunked",),
    }.items():
        yield Case(name, (request(post.split(b"\r\n")[0], *headers, rest=b"0\r\n\r\n" + hidden),), "4")
    for name, chunks in {
        "a chunk size in words": b"zz\r\n\r\n",
        "a chunk size below nothing": b"-5\r\nhello\r\n0\r\n\r\n",
        "a chunk size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "a chunk size of 2^68": b"fffffffffffffffff\r\nhello\r\n",
        "a chunk longer than it says": b"1\r\nhello\r\n0\r\n\r\n",
        "a chunk without its end": b"5\r\nhello0\r\n\r\n",
        "a chunk size ended by LF": b"5\nhello\n0\n\n",
        "a chunk size ended by CR": b"5\rhello\r0\r\r",
        "an extension with LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "an endless extension": b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
        "trailers that are headers": b"0\r\nContent-Length: 50\r\nHost: evil.example\r\n\r\n",
        "trailers without end": b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    }.items():
        yield Case(name, (put + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + hidden.replace(b"POST", b"BREW"),))
    in_body = put + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden
    yield Case("a request as a body", (in_body,), "201")
    in_chunk = put + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    yield Case("a request as a chunk", (in_chunk,), "201")
    yield Case("a request as the body of one that is refused", (in_body.replace(b"PUT", b"BREW"),), "4")
    yield Case("a request as the body of a GET", (get[:-2] + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden,))
    # heads that are not as they should be
    for name, head in {
        "bare LF": get.replace(b"\r\n", b"\n"),
        "bare CR": get.replace(b"\r\n", b"\r"),
        "NUL in the path": get.replace(line, b"GET /\x00 HTTP/1.1"),
        "NUL in a header": request(line, b"X: a\x00b"),
        "NUL in a header's name": request(line, b"X\x00: a"),
        "a header over two lines": request(line, b"X: a\r\n b"),
        "a first header over two lines": line + b"\r\n X: y\r\n" + lead + b"\r\n",
        "a header without a colon": request(line, b"nonsense"),
        "a header without a name": request(line, b": x"),
        "a space in a header's name": request(line, b"X Y: z"),
        "two hosts": request(line, b"Host: evil.example"),
        "an empty line first, and then another protocol": b"\r\n\r\nHELO mail.example\r\n\r\n",
        "two spaces in the first line": request(line.replace(b" ", b"  ")),
        "a path that is none": request(b"GET status HTTP/1.1"),
        "a fragment": request(b"GET /healthz#/../x HTTP/1.1"),
        "an address of elsewhere": request(b"GET http://evil.example/status HTTP/1.1"),
        "a tunnel": request(b"CONNECT evil.example:443 HTTP/1.1"),
        "a method in lower case": request(line.replace(b"GET", b"get")),
        "a method of 10 KiB": request(line.replace(b"GET", b"G" * 10_240)),
        "a version to come": request(line.replace(b"1.1", b"2.0")),
        "a version that is none": request(line.replace(b"HTTP/1.1", b"HTTP/1.x")),
        "another protocol": request(line.replace(b"HTTP", b"ICAP")),
    }.items():
        good = "" if name in {"bare LF", "a fragment", "two spaces in the first line"} else "4"
        yield Case(name, (head,), good, "read" if head != get.replace(b"\r\n", b"\r") else "close")
    yield Case("no host", (line + b"\r\nAuthorization: " + to.authorization.encode() + b"\r\n\r\n",), "4")
    yield Case("the host of a page", (get.replace(to.host.encode(), b"evil.example"),), "4")
    yield Case("HTTP/0.9", (b"GET /\r\n",))
    yield Case("HTTP/1.0", (get.replace(b"HTTP/1.1", b"HTTP/1.0"),), "200")
    yield Case("OPTIONS *", (request(b"OPTIONS * HTTP/1.1"),))
    yield Case("HTTP/2 by itself", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),), "4")
    yield Case(
        "HTTP/2 asked for", (request(line, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", rest=hidden),)
    )
    socket = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA==")
    yield Case("a web socket", (request(line, *socket, rest=b"\x81\x85abcd" + b"x" * 5000),))
    yield Case("TLS", (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,))
    yield Case("SSH", (b"SSH-2.0-OpenSSH_9.6\r\n",))
    yield Case("nothing but NULs", (bytes(5000),))


def mutants(to: Target, number: int, seed: int) -> Iterator[Case]:
    """As many cases, each made of one or two of the others by a few changes, and sent in pieces cut anywhere."""
    chance = random.Random(seed)
    whole = [b"".join(case.pieces) for case in cases(to)]
    whole = [text for text in whole if text and len(text) < 20_000]
    for n in range(number):
        text = bytearray(chance.choice(whole))
        if chance.random() < 0.4:
            text += chance.choice(whole)
        for _ in range(chance.randint(1, 4)):
            _change(text, chance)
        text = bytearray(bytes(text).replace(b"POST ", b"PUSH "))  # what is hidden must not be right by itself
        cuts = sorted(chance.randrange(len(text) + 1) for _ in range(chance.randint(0, 3)))
        pieces = tuple(bytes(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))
        yield Case(f"mutant {seed}.{n}", pieces, "", chance.choice(("read", "read", "read", "close", "reset")))


_BITS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"chunked",
    b"Content-Length: 7\r\n",
    b"\xff",
)


def _change(text: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(text) + 1)
    match chance.randrange(5):
        case 0:
            text[at:at] = chance.choice(_BITS)
        case 1:
            del text[at : at + chance.randint(1, 8)]
        case 2:
            text[at : at + 1] = bytes([chance.randrange(256)])
        case 3:
            text[at:at] = text[at : at + chance.randint(1, 40)]
        case _:
            text[at:at] = chance.randbytes(chance.randint(1, 16))
