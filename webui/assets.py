"""The files that browsers load: read once, named by their hash, so that a browser keeps each for good."""

from __future__ import annotations

import gzip
import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from aiohttp import web

from webui.packing import takes_gzip

_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
    ".txt": "text/plain",
    ".json": "application/json",
}


class _Asset(NamedTuple):
    body: bytes
    zipped: bytes
    digest: str
    content_type: str


class Assets:
    """All files under `static/`.

    Args:
        prefix: the path that all URLs begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._assets = dict(_walk(files("webui") / "static", ""))

    def url(self, name: str) -> str:
        """The address of a file; it changes when the file does."""
        return f"{self._prefix}/static/{name}?{self._assets[name].digest}"

    def answer(self, request: web.Request) -> web.Response:
        """The file that the path names, gzipped where that helps."""
        name = request.match_info["name"]
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound
        headers = {"ETag": f'"{asset.digest}"', "Vary": "Accept-Encoding"}
        fixed = request.query_string == asset.digest
        headers["Cache-Control"] = "public, max-age=31536000, immutable" if fixed else "no-cache"
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        body = asset.body
        if takes_gzip(request) and len(asset.zipped) < len(body):
            headers["Content-Encoding"] = "gzip"
            body = asset.zipped
        return web.Response(body=body, headers=headers, content_type=asset.content_type, charset="utf-8")


def _walk(place: Traversable, before: str) -> list[tuple[str, _Asset]]:
    found: list[tuple[str, _Asset]] = []
    for each in place.iterdir():
        name = f"{before}{each.name}"
        if each.is_dir():
            found += _walk(each, f"{name}/")
            continue
        body = each.read_bytes()
        kind = _TYPES.get("." + each.name.rpartition(".")[2], "application/octet-stream")
        digest = hashlib.sha256(body).hexdigest()[:16]
        found.append((name, _Asset(body, gzip.compress(body, 9, mtime=0), digest, kind)))
    return found
