"""The pages at 5,000 and at a million accounts: time of a page against its bare queries. With 5,000: requests for JSON
against a bare Starlette that answers a constant, memory, and swaps of the copy under load.

BENCH_PAGES_SOURCE names a data folder with a run of 300 accounts to multiply; without it one is made.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.bench.collector import free_port, pinned, server
from tests.bench.measure import BIN, Row, clean_environment, run
from tests.bench.pages_data import multiply

SIZES = {"5,000": (17, None), "1,000,000": (3_334, 20)}
"""Copies of each account, and the last days that are kept, each with one hour; None keeps all 60 as they are."""
CONNECTIONS, REQUESTS, PAGES, SWAPS = 8, 2_000, 1_000, 20
CORE = 0
"""Of the servers. The other one is the client's."""


def bench(folder: Path) -> list[Row]:
    source = Path(os.environ.get("BENCH_PAGES_SOURCE", folder / "source"))
    if not source.exists():
        run([BIN / "headroom", "generate"], source)
        run([BIN / "headroom", "run"], source)
    rows = []
    for of, (copies, days) in SIZES.items():
        data = folder / of.replace(",", "")
        data.mkdir()
        multiply(source / "published.duckdb", data / "published.duckdb", copies, days)
        shutil.copy(source / "ledger.sqlite", data)
        rows += _times(data, of)
        if days is None:  # with a million, a thousand pages of accounts would take half an hour
            rows += _served(data, of)
        shutil.rmtree(data)
    return rows


def _times(data: Path, of: str) -> list[Row]:
    """Of each page in a process of its own."""
    done = run([sys.executable, "-m", "tests.bench.pages_timed"], data)
    return [
        Row(
            f"{of} accounts, {each['page']} (median of {each['rounds']})",
            f"{each['ms']:.0f} ms, CPU {each['cpu_ms']:.0f} ms, first of a copy {each['first_ms']:.0f} ms",
            f"{each['bare_ms']:.1f} ms",
            f"{each['ms'] / each['bare_ms']:.2f}",
            "its queries on an open connection, rows as tuples",
            each["ms"] / each["bare_ms"],
        )
        for each in json.loads(done.output.splitlines()[-1])
    ]


def _served(data: Path, of: str) -> list[Row]:
    """What one process on one core does: JSON of one account after the other, while the copy is swapped, and pages."""
    link = run([BIN / "headroom", "pages", "grant", "bench"], data).output
    [secret] = re.findall(r"/k/(\S+)", link)
    accounts = json.loads(run([sys.executable, "-m", "tests.bench.pages_timed", "accounts"], data).output)
    port = free_port()
    command = [*pinned(CORE), str(BIN / "headroom"), "pages"]
    with server(command, port, clean_environment(data) | {"HEADROOM_PAGES_PORT": str(port)}):
        client = Client(port, secret)
        one = [f"/v1/accounts/{account}/usage" for account in accounts]
        first = client.gets(one)  # each view of the hour is recorded, and each account asked for
        ours = client.gets(_times_over(one, REQUESTS))
        swapped = client.gets(_times_over(one, REQUESTS), lambda: _swap(data / "published.duckdb"))
        client.gets(_times_over(["/", "/top", "/changes", *(f"/accounts/{each}" for each in accounts)], PAGES))
        memory = _memory(port)
    with server(_bare(port), port, dict(os.environ)):
        client = Client(port, secret)
        client.gets(one)
        bare = client.gets(_times_over(one, REQUESTS))
    against = "Starlette and uvicorn that answer a constant, same core"
    return [
        *(
            Row(
                f"{of} accounts: JSON of one, {when}, one core",
                f"{mine.per_second:,.0f} requests/s",
                f"{bare.per_second:,.0f} requests/s",
                f"{mine.per_second / bare.per_second:.2f} of its speed",
                against,
                bare.per_second / mine.per_second,
            )
            for when, mine in (("the first time in an hour", first), ("again", ours))
        ),
        Row(
            f"{of} accounts: the same, the copy swapped {SWAPS} times",
            f"{swapped.per_second:,.0f} requests/s, {swapped.failed} of {REQUESTS:,} failed, the slowest"
            f" {swapped.slowest:.2f} s",
            f"{ours.per_second:,.0f} requests/s",
            f"{swapped.per_second / ours.per_second:.2f} of its speed",
            "the same without swaps",
            ours.per_second / swapped.per_second,
        ),
        Row(
            f"{of} accounts: memory after {2 * REQUESTS:,} JSON, {PAGES:,} pages, {SWAPS} swaps", memory, "–", "–", "–"
        ),
    ]


class Client:
    """Some connections at once, on a core of its own; each address is asked for once."""

    def __init__(self, port: int, secret: str) -> None:
        self._port, self._secret = port, secret

    def gets(self, paths: list[str], swap: Callable[[], None] | None = None) -> "Answered":
        waiting, answered = iter(paths), Answered()
        started = time.perf_counter()

        async def all_of_them() -> None:
            work: list[Coroutine[Any, Any, None]] = [self._connection(waiting, answered) for _ in range(CONNECTIONS)]
            if swap:
                work.append(_swaps(swap, answered, len(paths)))
            await asyncio.gather(*work)

        asyncio.run(all_of_them())
        answered.per_second = len(paths) / (time.perf_counter() - started)
        return answered

    async def _connection(self, paths: Any, answered: "Answered") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for path in paths:
            asked = time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {self._secret}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length))
            answered.count += 1
            answered.failed += not head.startswith(b"HTTP/1.1 200")
            answered.slowest = max(answered.slowest, time.perf_counter() - asked)
        writer.close()


class Answered:
    count, failed, slowest, per_second = 0, 0, 0.0, 0.0


async def _swaps(swap: Callable[[], None], answered: Answered, requests: int) -> None:
    """One after each twentieth of the requests."""
    for number in range(SWAPS):
        while answered.count < requests * (number + 0.5) / SWAPS:
            await asyncio.sleep(0.002)
        await asyncio.to_thread(swap)


def _swap(published: Path) -> None:
    """As a publication does at its end."""
    staging = published.with_name(".staging")
    shutil.copyfile(published, staging)
    staging.replace(published)


def _times_over(paths: list[str], count: int) -> list[str]:
    return [paths[number % len(paths)] for number in range(count)]


def _memory(port: int) -> str:
    found = subprocess.run(["ss", "-tlnpH", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    [process] = set(re.findall(r"pid=(\d+)", found))
    now, peak = (
        int(re.findall(rf"{name}:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[0]) >> 10
        for name in ("VmRSS", "VmHWM")
    )
    return f"{now} MB, peak {peak} MB"


def _bare(port: int) -> list[str]:
    return [*pinned(CORE), sys.executable, "-m", "tests.bench.pages_bare", str(port)]
