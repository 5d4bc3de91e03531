"""`/v1/limits`: the snapshot for gates, as the newest publication wrote it. `warehouse/limits.py` says what is in it.

A gate asks again as soon as it is answered, with the ETag that it has and `?wait=30`: it is answered when there is a
newer snapshot, or after so many seconds. No thread waits for that.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from orchestration.pages.asking import WrongQuestionError
from orchestration.pages.visitors import Door
from orchestration.warehouse import limits
from orchestration.warehouse.published_copy import NothingPublishedError

MOST_WAIT_SECONDS = 60
LOOK_SECONDS = 1.0
"""Between two looks at the file while a gate waits."""
_PIECE_BYTES = 2**18
_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")


class Limits:
    """What gates are answered. One for a process."""

    def __init__(self, published: Path, door: Door) -> None:
        self._path, self._door = limits.path_of(published), door

    async def answer(self, request: Request) -> Response:
        """The snapshot, or 304 where the gate has it. Its key is looked up before the wait and after it.

        :raises NothingPublishedError: no run has written a snapshot yet.
        """
        wait = _wait(request)
        await run_in_threadpool(self._door.gate, request)
        is_packed = bool(_GZIP.search(request.headers.get("accept-encoding", "")))
        path = limits.compressed(self._path) if is_packed else self._path
        known = request.headers.get("if-none-match", "")
        is_ending = getattr(request.app.state, "is_ending", bool)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while _tag(_found(path)) in known and (left := until - loop.time()) > 0 and not is_ending():
            if await request.is_disconnected():
                break
            await asyncio.sleep(min(LOOK_SECONDS, left))
        return await run_in_threadpool(self._answer, request, path, known, is_packed)

    def _answer(self, request: Request, path: Path, known: str, is_packed: bool) -> Response:
        key = self._door.gate(request)
        self._door.note(f"key:{key.id}", "", "limits")
        _found(path)
        file = path.open("rb")
        stat = os.fstat(file.fileno())  # of this file, whatever takes its place meanwhile
        headers = {"etag": _tag(stat), "cache-control": "private, no-cache", "vary": "Accept-Encoding"}
        if headers["etag"] in known:
            file.close()
            return Response(status_code=304, headers=headers)
        headers["content-length"] = str(stat.st_size)
        if is_packed:
            headers["content-encoding"] = "gzip"
        return StreamingResponse(_pieces(file), media_type="application/json", headers=headers)


def _wait(request: Request) -> int:
    text = request.query_params.get("wait", "0")
    if not re.fullmatch("[0-9]{1,2}", text) or int(text) > MOST_WAIT_SECONDS:
        raise WrongQuestionError(f"wait is a number of seconds, {MOST_WAIT_SECONDS} at most.")
    return int(text)


def _found(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise NothingPublishedError("there are no limits yet: `headroom run` writes them") from None


def _tag(stat: os.stat_result) -> str:
    return f'"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"'


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
