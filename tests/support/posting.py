"""A ledger, a channel as a route opens it, and a clock that tests move: messages are drawn, frozen and delivered.

So are processes that race, or are killed in the middle of a delivery.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Protocol, Self

from orchestration.channels import vendors
from orchestration.ledger import engines, outbox
from orchestration.ledger import ledger as ledger_module
from orchestration.ledger.ledger import Delivery, Ledger
from orchestration.ledger.outbox import DOUBT_WINDOW, Channel, InDoubtError, Promise, RefusedError, deliver
from orchestration.messages.message import Line, Message, Section
from orchestration.messages.vendor import Target
from orchestration.settings import load
from tests.fakes.faults import Fault
from tests.support import ledgers, programs
from tests.support.waiting import PATIENCE_SECONDS

ROUTE = "on-call"
ROUNDS = 6
"""Runs after which a delivery has come to its end, whatever happened to one of them."""
RACERS, RACES = 3, 4
KILLS = 4
"""At lines of the channel, and twice as many at others."""


class Fake(Protocol):
    """A vendor on loopback, as all channels have one in tests/fakes/."""

    name: str
    to: str
    other_to: str | None
    options: Mapping[str, str]
    """What a route to it has to set besides."""
    is_down: bool

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: Any) -> None: ...

    def environment(self, route: str) -> dict[str, str]:
        """The variables of a route that leads there."""

    def fail_next(self, *faults: Fault) -> None:
        """What happens to the next requests that send something."""

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """What people see, oldest first: "text", and "mark" where it is visible."""


class Desk:
    """One route: it leads to `to`, until a test moves it."""

    def __init__(self, ledger: Ledger, name: str, promise: Promise, to: str, options: Mapping[str, str]) -> None:
        self.ledger, self.promise, self.to, self.now = ledger, promise, to, datetime.now(UTC)
        self.vendor = vendors.vendor(name)
        self._name, self._options = name, options

    def open(self) -> Channel:
        """The channel, as a new run opens it."""
        return self.vendor.open(Target(ROUTE, self.to, self.promise, _secret, self._options), load())

    def prepare(self, key: str, lines: int = 1) -> None:
        """Decide a message whose headline has the key, and freeze it."""
        listed = [Line(f"{key}, fact {n}.", name=f"Account {n}") for n in range(1, lines + 1)]
        sections = [Section("Out of quota", listed)]
        message = Message(f"critical|{key}", "sales", f"Hard quota alert {key}", f"{key} is out of quota", sections)
        payload, replies = self.vendor.draw(message, "prod", {})
        with self.ledger.transaction() as connection:
            self.ledger.prepare(connection, key, self._name, payload, self.now, replies)

    def delivery(self, key: str) -> Delivery:
        found = self.ledger.delivery(key)
        assert found
        return found

    def deliver(self, key: str) -> Delivery:
        """One run."""
        return deliver(self.ledger, key, self.open(), lambda: self.now)

    def bring_to_its_end(self, key: str) -> Delivery:
        """Runs, far enough from each other, until it is sent or given up."""
        for _ in range(ROUNDS):
            try:
                found = self.deliver(key)
            except (RefusedError, InDoubtError):
                found = self.delivery(key)
            if found.state in outbox.OVER:
                break
            self.now += DOUBT_WINDOW
        return found


def _secret(name: str) -> str | None:
    return load().secret(f"HEADROOM_ROUTE_{ROUTE.upper().replace('-', '_')}_{name.upper()}")


@contextmanager
def opened(
    folder: Path, name: str, promise: Promise, to: str, options: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Desk]:
    """A desk with the ledger of that folder, which is made where there is none."""
    path = folder / "ledger.sqlite"
    if not path.exists():
        path.write_bytes(ledgers.empty())
    ledger = Ledger(f"sqlite:///{path}")
    with ledgers.quick_disk():
        yield Desk(ledger, name, promise, to, options)
    ledger.close()


def run_as_program(program: str, folder: Path, fake: Fake, promise: Promise) -> list[str]:
    """The keys that the program delivered to the fake, or tried to."""
    process = programs.run(as_program, program, folder, fake.name, promise, fake.to, json.dumps(dict(fake.options)))
    assert process.stderr == ""
    assert process.returncode == 0
    return process.stdout.split()


def kill_at_lines(desk: Desk) -> None:
    """Deliver in processes that die at some line of it. Prints their keys; the last one lived."""
    channel = desk.open()
    lines: list[bool] = []
    for key in ("first", "second"):  # so that no process has to put the statements together, or to ask for a schema
        desk.prepare(key)
        desk.ledger.close()
        lines.clear()
        with _traced(desk, lines.append):
            deliver(desk.ledger, key, channel, lambda: desk.now)
    for line in [*_some(lines), len(lines) + 1]:
        key = f"kill-{line}-end"
        desk.prepare(key)
        desk.ledger.close()  # SQLite's connections must not be carried over a fork
        process = os.fork()
        if process == 0:
            _deliver_and_die(desk, key, channel, line)
        _, status = os.waitpid(process, 0)
        if status != (0 if line > len(lines) else signal.SIGKILL):
            sys.exit(f"the process for {key} ended with {status}")
        print(key, flush=True)  # noqa: T201 - the answer to the parent


def _some(lines: Sequence[bool]) -> list[int]:
    """Numbers of lines, evenly over those of the channel and over the others."""
    of_channel, others = ([n for n, is_its in enumerate(lines, 1) if is_its is which] for which in (True, False))
    return sorted({*of_channel[:: len(of_channel) // KILLS or 1], *others[:: len(others) // (2 * KILLS)]})


def _deliver_and_die(desk: Desk, key: str, channel: Channel, line: int) -> None:
    left = line

    def die(_: bool) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    with _traced(desk, die):
        deliver(desk.ledger, key, channel, lambda: desk.now)
    os._exit(0)


@contextmanager
def _traced(desk: Desk, on_line: Callable[[bool], object]) -> Iterator[None]:
    """Call `on_line` before each line, with whether it is one of the channel."""
    ours = {outbox.__file__, ledger_module.__file__, engines.__file__}
    folder = Path(str(sys.modules[desk.vendor.open.__module__].__file__)).parent
    http = str(folder.parent / "http.py")

    def trace(frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        is_channel = name == http or name.startswith(f"{folder}/")
        if name not in ours and not is_channel:
            return None
        if event == "line":
            on_line(is_channel)
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def race(desk: Desk) -> None:
    """Several processes deliver the same at the same moment. Prints the keys."""
    keys = [f"race-{number}-end" for number in range(RACES)]
    for key in keys:
        desk.prepare(key)
    desk.ledger.close()
    context = get_context("fork")
    barrier = context.Barrier(RACERS, timeout=PATIENCE_SECONDS)
    processes = [context.Process(target=_deliver_each, args=(desk, keys, barrier)) for _ in range(RACERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit(1)
    print(*keys)  # noqa: T201


def _deliver_each(desk: Desk, keys: list[str], barrier: Any) -> None:
    for key in keys:
        barrier.wait()
        try:
            desk.deliver(key)
        except InDoubtError:
            continue  # another one is about to send it
    desk.ledger.close()


PROGRAMS: dict[str, Callable[[Desk], None]] = {"kill": kill_at_lines, "race": race}


def as_program(program: str, directory: str, channel_name: str, promised: str, address: str, options: str) -> None:
    with opened(Path(directory), channel_name, Promise(promised), address, json.loads(options)) as at:
        PROGRAMS[program](at)
