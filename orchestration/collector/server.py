"""The process: socket, event loop, signals, and the order in which things start and stop."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from orchestration.collector import leftovers
from orchestration.collector.access_log import AccessLog
from orchestration.collector.app import Collector
from orchestration.collector.board import Board
from orchestration.collector.clients import Clients
from orchestration.collector.keys import Keys
from orchestration.collector.metrics import Metrics, Snapshot
from orchestration.collector.objects import ObjectWriter
from orchestration.collector.protocol import Connection
from orchestration.collector.segments import SegmentWriter
from orchestration.collector.spool import HungWriterError, Spool
from orchestration.collector.supervisor import supervise
from orchestration.settings import Settings, load

FOLDER = leftovers.FOLDER
SEAL_SECONDS = 1.0
"""What a stop gives the disk at least, where the requests under way took all of its time."""
TICK_SECONDS = 0.1
_BACKLOG = 2048
_OTHER_FILES = 64

logger = logging.getLogger("headroom.collector")


class Place:
    """Of a worker among the others: its slot of the board, and how it sees that its supervisor lives."""

    def __init__(self, board: Board, index: int, is_alive: int) -> None:
        self._board, self._index = board, index
        self.is_alive = is_alive
        """Can be read as soon as the supervisor is gone."""
        self._shown_at_seconds = 0.0

    def take(self, figures: Metrics) -> None:
        """Go on where the worker before ended."""
        before = self._board.read(self._index)
        if before is not None:
            figures.go_on_from(before)

    def show(self, figures: Metrics, now_seconds: float) -> None:
        """Let the others see these figures, once a second."""
        if now_seconds - self._shown_at_seconds >= 1:
            self._shown_at_seconds = now_seconds
            self._board.write(self._index, figures.snapshot())

    def all(self, figures: Metrics) -> list[Snapshot]:
        """Those of all workers. These are shown first, so that no other worker answers with less later."""
        self._board.write(self._index, figures.snapshot())
        return self._board.all()


class Stopping:
    """That the process was asked to stop, and how. Two signals are in a hurry, and so is Ctrl-C."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def ask(self) -> None:
        if self.asked.is_set():
            self.hurried.set()
        self.asked.set()

    def hurry(self) -> None:
        self.hurried.set()
        self.asked.set()


def serve(settings: Settings) -> int:
    """Collect events until SIGINT or SIGTERM; the exit status.

    SIGHUP reads the keys again, from `.env` and the file of keys.

    :raises ValueError: no usable key, address or folder; the message says what to do.
    :raises HungWriterError: the disk or the bucket did not answer, so that the process stops without it.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keys = Keys.of(settings)
    _allow_files(2 * settings.collect_max_connections + _OTHER_FILES)
    if settings.collect_workers > 1:
        return _serve_by_workers(settings, keys)
    with _bound(settings.collect_host, settings.collect_port) as bound:
        _serve(settings, keys, bound)
    return 0


def _serve_by_workers(settings: Settings, keys: Keys) -> int:
    with _folder_is_usable(settings):
        (settings.landing / FOLDER).mkdir(parents=True, exist_ok=True)
    board = Board(settings.collect_workers)
    is_alive, alive = os.pipe()
    with _reserved(settings.collect_host, settings.collect_port) as reserved:
        port = reserved.getsockname()[1]

        def work(index: int) -> int:
            os.close(alive)  # of the supervisor's copy: that ends with it
            form = f"%(asctime)s %(levelname)s worker {index}: %(message)s"
            logging.basicConfig(level=logging.INFO, format=form, force=True)
            try:
                with _bound(settings.collect_host, port, is_shared=True) as bound:
                    _serve(settings, _newest(keys), bound, Place(board, index, is_alive))
            except (ValueError, HungWriterError) as error:
                logger.error("%s", error)
                return 1
            return 0

        return supervise(settings.collect_workers, work)


def _newest(keys: Keys) -> Keys:
    """For a worker that is started later: what SIGHUP gave the others."""
    try:
        return Keys.of(load())
    except ValueError:
        return keys


def _serve(settings: Settings, keys: Keys, bound: socket.socket, place: Place | None = None) -> None:
    # Parsed events are freed without the garbage collector, and what is there now stays: let it look rarely.
    gc.freeze()
    gc.set_threshold(50_000, 10, 100)
    try:
        with _folder_is_usable(settings):
            uvloop.run(_run(settings, keys, bound, place))
    finally:
        gc.unfreeze()  # libraries look at exit whether all that is theirs was freed, and complain


@contextmanager
def _folder_is_usable(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"The collector cannot use {settings.landing / FOLDER} ({error.strerror}): see HEADROOM_LANDING."
        ) from error


async def _run(settings: Settings, keys: Keys, bound: socket.socket, place: Place | None) -> None:
    stopping = Stopping()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stopping.hurry)
    loop.add_signal_handler(signal.SIGTERM, stopping.ask)
    if place is not None:
        loop.add_reader(place.is_alive, stopping.hurry)
    await run(settings, keys, bound, stopping, place)


async def run(
    settings: Settings, keys: Keys, bound: socket.socket, stopping: Stopping, place: Place | None = None
) -> None:
    """Serve on a bound socket until it is asked to stop; then finish what is under way, and seal.

    For `collect_grace_seconds` it still serves while `/readyz` answers 503: so long a load balancer may need to see it.

    :raises OSError: the folder cannot be made or read.
    :raises ValueError: the bucket's address cannot be used.
    """
    loop = asyncio.get_running_loop()
    figures = Metrics()
    spool = spool_of(settings, figures)
    collector = Collector(settings, keys, spool, figures)
    if settings.collect_access_log != "off":
        collector.access_log = AccessLog(settings.collect_access_log)
    if place is not None:
        place.take(figures)
        collector.all_figures = lambda: place.all(figures)
    clients = Clients(
        collector,
        settings.collect_max_connections,
        settings.collect_request_seconds,
        settings.collect_idle_seconds,
    )
    figures.connections = lambda: len(clients.connections)
    await spool.start()
    clients.tick(loop.time())
    server = await loop.create_server(lambda: Connection(clients), sock=bound, backlog=_BACKLOG)
    host, port, *_ = bound.getsockname()
    logger.info("collecting events on http://%s:%d into %s", f"[{host}]" if ":" in host else host, port, spool.place)
    if threading.current_thread() is threading.main_thread():
        loop.add_signal_handler(signal.SIGHUP, reload_keys, collector)
    while not stopping.asked.is_set():
        clients.tick(loop.time())
        if place is not None:
            place.show(figures, loop.time())
        await _tick(stopping.asked)
    spool.is_stopping = True
    until = loop.time() + settings.collect_grace_seconds
    if loop.time() < until and not stopping.hurried.is_set():
        logger.info("stopping in %g seconds: /readyz says so", settings.collect_grace_seconds)
    while loop.time() < until and not stopping.hurried.is_set():
        clients.tick(loop.time())
        await _tick(stopping.hurried)
    logger.info("stopping: %d connections", len(clients.connections))
    server.close()
    clients.stop()
    last_moment = loop.time() + settings.collect_stop_seconds
    while clients.connections and loop.time() < last_moment:
        clients.tick(loop.time())
        await asyncio.sleep(TICK_SECONDS / 10)
    clients.abort()
    if collector.access_log is not None:
        collector.access_log.close(SEAL_SECONDS)
    await spool.stop(max(SEAL_SECONDS, last_moment - loop.time()))


def reload_keys(collector: Collector) -> None:
    """Take the keys that are configured now; those of before stay where these cannot be used."""
    try:
        collector.keys = Keys.of(load())
    except ValueError as error:
        logger.error("keys were not reloaded, those of before stay in use: %s", error)
    else:
        logger.info("keys were reloaded: %s", ", ".join(collector.keys.names))


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


async def _tick(until: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(until.wait(), TICK_SECONDS)
    except TimeoutError:
        return


def _reserved(host: str, port: int) -> socket.socket:
    """A socket that keeps the port for the workers, and takes no connection.

    :raises ValueError: another program listens there.
    """
    with _bound(host, port) as free:  # another collector that shares its port would share it with this one as well
        family, address = free.family, free.getsockname()
    reserved = socket.socket(family)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(address)
    return reserved


def _bound(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        takes_both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            (host, port), family=family, backlog=_BACKLOG, reuse_port=is_shared, dualstack_ipv6=takes_both
        )
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
