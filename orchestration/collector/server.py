"""The process: socket, event loop, signals, and the order in which things start and stop."""

import asyncio
import gc
import logging
import resource
import signal
import socket

import uvloop

from orchestration.collector import leftovers
from orchestration.collector.app import Collector
from orchestration.collector.clients import Clients
from orchestration.collector.keys import Keys
from orchestration.collector.metrics import Metrics
from orchestration.collector.objects import ObjectWriter
from orchestration.collector.protocol import Connection
from orchestration.collector.segments import SegmentWriter
from orchestration.collector.spool import Spool
from orchestration.settings import Settings

FOLDER = leftovers.FOLDER
DRAIN_SECONDS = 10.0
"""How long a stop waits for requests that are under way."""
TICK_SECONDS = 0.1
_BACKLOG = 2048
_OTHER_FILES = 64

logger = logging.getLogger("headroom.collector")


def serve(settings: Settings) -> None:
    """Collect events until SIGINT or SIGTERM.

    :raises ValueError: no usable key, address or folder; the message says what to do.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keys = Keys.of(settings)
    # Parsed events are freed without the garbage collector, and what is there now stays: let it look rarely.
    gc.freeze()
    gc.set_threshold(50_000, 10, 100)
    _allow_files(2 * settings.collect_max_connections + _OTHER_FILES)
    with _bound(settings.collect_host, settings.collect_port) as bound:
        try:
            uvloop.run(_run(settings, keys, bound))
        except OSError as error:
            raise ValueError(
                f"The collector cannot use {settings.landing / FOLDER} ({error.strerror}): see HEADROOM_LANDING."
            ) from error
        finally:
            gc.unfreeze()  # libraries look at exit whether all that is theirs was freed, and complain


async def _run(settings: Settings, keys: Keys, bound: socket.socket) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    await run(settings, keys, bound, stopping)


async def run(settings: Settings, keys: Keys, bound: socket.socket, stopping: asyncio.Event) -> None:
    """Serve on a bound socket until the event is set; then finish what is under way, and seal.

    :raises OSError: the folder cannot be made or read.
    :raises ValueError: the bucket's address cannot be used.
    """
    loop = asyncio.get_running_loop()
    figures = Metrics()
    spool = spool_of(settings, figures)
    clients = Clients(
        Collector(settings, keys, spool, figures),
        settings.collect_max_connections,
        settings.collect_request_seconds,
        settings.collect_idle_seconds,
    )
    figures.connections = lambda: len(clients.connections)
    await spool.start()
    clients.tick(loop.time())
    server = await loop.create_server(lambda: Connection(clients), sock=bound, backlog=_BACKLOG)
    host, port, *_ = bound.getsockname()
    logger.info("collecting events on http://%s:%d into %s", host, port, spool.place)
    while not stopping.is_set():
        clients.tick(loop.time())
        await _tick(stopping)
    logger.info("stopping: %d connections", len(clients.connections))
    spool.is_stopping = True
    server.close()
    clients.stop()
    last_moment = loop.time() + DRAIN_SECONDS
    while clients.connections and loop.time() < last_moment:
        clients.tick(loop.time())
        await asyncio.sleep(TICK_SECONDS / 10)
    clients.abort()
    await spool.stop()


def spool_of(settings: Settings, figures: Metrics) -> Spool:
    """In the landing folder, or in the bucket where one is named.

    :raises ValueError: the bucket's address cannot be used.
    """
    writer, wait_seconds = (
        (ObjectWriter(settings.collect_url), settings.collect_wait_ms / 1000)
        if settings.collect_url
        else (SegmentWriter(settings.landing / FOLDER), 0)
    )
    return Spool(writer, figures, seal_seconds=settings.collect_seal_seconds, wait_seconds=wait_seconds)


async def _tick(stopping: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), TICK_SECONDS)
    except TimeoutError:
        return


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ValueError(
            f"Cannot listen on {host}:{port} ({error.strerror}): "
            "set HEADROOM_COLLECT_HOST and HEADROOM_COLLECT_PORT to an address that is free."
        ) from error


def _allow_files(count: int) -> None:
    """Raise the limit of open files: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        if wanted < count:
            logger.warning("only %d open files are allowed: HEADROOM_COLLECT_MAX_CONNECTIONS is out of reach", wanted)
