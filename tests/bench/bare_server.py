"""The limit in Python: httptools on uvloop and nothing else, as `answers`, or as `stores`: JSON parsed, then a group
commit with fdatasync before the answer, without keys, limits, metrics or any kind of client in mind.
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import httptools
import orjson
import uvloop

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{"accepted":1}'


class Answers(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        body, self.body = b"".join(self.body), []
        self.take(body)

    def take(self, body: bytes) -> None:
        self.transport.write(ANSWER)


class Stores(Answers):
    file = -1
    pending: list[tuple[bytes, asyncio.Transport]] = []  # noqa: RUF012 - one for all connections
    thread = ThreadPoolExecutor(1)
    is_busy = False

    def take(self, body: bytes) -> None:
        orjson.loads(body)
        Stores.pending.append((body + b"\n", self.transport))
        if not Stores.is_busy:
            Stores.is_busy = True
            asyncio.get_running_loop().call_soon(Stores.commit)

    @staticmethod
    def commit() -> None:
        group, Stores.pending = Stores.pending, []
        loop = asyncio.get_running_loop()

        def write() -> None:
            os.writev(Stores.file, [line for line, _ in group])
            os.fdatasync(Stores.file)
            loop.call_soon_threadsafe(written)

        def written() -> None:
            for _, transport in group:
                if not transport.is_closing():
                    transport.write(ANSWER)
            if Stores.pending:
                Stores.commit()
            else:
                Stores.is_busy = False

        Stores.thread.submit(write)


async def main(kind: type[Answers], port: int, file: Path) -> None:
    Stores.file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main({"answers": Answers, "stores": Stores}[sys.argv[1]], int(sys.argv[2]), Path(sys.argv[3])))
