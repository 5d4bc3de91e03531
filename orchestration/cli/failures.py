"""What ends a command early, on one line each: a wrong configuration, a failure of the machine, Ctrl-C, SIGTERM.

The words for failures of the machine are in messages/environment.py, which alerts and the log of a run share. A fault
of the program keeps its traceback.
"""

import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from types import FrameType
from typing import Any

from pydantic import ValidationError

from orchestration import settings
from orchestration.cli import run
from orchestration.cli.console import print_error
from orchestration.ledger.engines import UnusableLedgerError
from orchestration.messages import environment
from orchestration.settings import ConfigurationError, Settings
from orchestration.warehouse import published_copy

KEPT = "finished work is kept, and the next run does the rest"
_KINDS = {
    "int_parsing": "is not a whole number",
    "float_parsing": "is not a number",
    "bool_parsing": "is neither true nor false",
    "datetime_from_date_parsing": "is not a time such as 2026-11-20T08:00:00Z",
    "datetime_parsing": "is not a time such as 2026-11-20T08:00:00Z",
}
"""pydantic's type of an error, in words."""
_COPY_ERRORS = (published_copy.LockedCopyError, published_copy.OutdatedCopyError)
"""Of the published copy, whose messages are sentences."""
_is_debug = False
_stopped_by: list[int] = []
"""Signals that came, oldest first."""
_pipe: list[int] = []
"""Its end to read from, while a command runs. Python writes the number of each signal to the other one."""


class StoppedBySignalError(BaseException):
    """Raised where the program is when a signal comes. Not a KeyboardInterrupt, which the command line would print."""


def is_debug() -> bool:
    """Whether tracebacks were asked for."""
    return _is_debug


def without_debug(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command without `--debug`, which may stand anywhere before a bare `--`; remembered here."""
    global _is_debug
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    _is_debug = "--debug" in arguments[:end]
    return [argument for argument in arguments[:end] if argument != "--debug"] + list(arguments[end:])


def in_sentences(command: Callable[[], object]) -> int:
    """Run a command; the exit status of what ended it early, else 0.

    Known failures are printed as sentences, those of the program raised.
    """
    _stopped_by.clear()
    try:
        with _raising_at_signals():
            command()
    except StoppedBySignalError:
        return stop_status()
    except (ValidationError, ConfigurationError) as error:
        _trace()
        for problem in _problems(error):
            print_error(f"configuration: {problem}")
        return 2
    except Exception as error:
        if _stopped_by:  # what was under way failed because of it
            return stop_status()
        said = str(error) if isinstance(error, _COPY_ERRORS) else sentence_of(error)
        if said is None and isinstance(error, UnusableLedgerError | run.UnusableDagsterError):
            said = str(error)
        if said is None:
            raise
        _trace()
        print_error(said if _is_debug else f"{said}. --debug shows the traceback")
        return 1
    return 0


def quiet_retries() -> None:
    """Let Dagster try again without a word: what then fails is a sentence."""
    if not _is_debug:
        logging.getLogger().addHandler(logging.NullHandler())


def sentence_of(error: BaseException) -> str | None:
    """What a person reads of a failure of the machine; None where it is none."""
    try:
        config = settings.load()
    except ValueError:
        config = Settings.model_construct()
    return environment.sentence(list(environment.causes_of(error)), config)


def was_stopped() -> bool:
    """Whether a signal has asked the command to stop."""
    for reading in _pipe:
        with suppress(BlockingIOError):
            _stopped_by.extend(number for number in os.read(reading, 1024) if number in (signal.SIGINT, signal.SIGTERM))
    return bool(_stopped_by)


def stop_status() -> int:
    """Say that a signal stopped the command, on one line; the exit status that shells expect."""
    number = _stopped_by[0] if _stopped_by else signal.SIGINT
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    print_error(f"stopped by {name}: {KEPT}")
    return 128 + number


def _trace() -> None:
    if _is_debug:
        traceback.print_exc()


def _problems(error: ValidationError | ConfigurationError) -> Iterator[str]:
    if isinstance(error, ConfigurationError):
        yield from error.problems
        return
    sources = _sources()
    for problem in error.errors(include_url=False):
        name = ".".join(str(part) for part in problem["loc"])
        place = f"{name} ({sources[name]})" if name in sources else name
        said = _worded(name, problem)
        yield said if not name else f"{place} {said}" if said.startswith("is ") else f"{place}: {said}"


def _worded(name: str, problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    value = "" if _is_secret(name) else str(problem.get("input", ""))
    if kind == "int_parsing" and value.startswith(("tcp://", "udp://")):
        return "is what Kubernetes sets for a Service of that name: set enableServiceLinks: false for the pod"
    if kind in _KINDS:
        return _KINDS[kind]
    if kind == "literal_error":
        choices = str(context["expected"]).replace("'", "")
        near = get_close_matches(value.lower(), choices.replace(" or ", ", ").split(", "), 1)
        return f"is not {choices}{f': did you mean {near[0]}?' if near else ''}"
    if kind == "string_pattern_mismatch":
        return f"is in the wrong form. What it is: {_description(name)}"
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        [bound] = context.values()
        word = {"greater_than": "more than", "greater_than_equal": "at least", "less_than": "less than"}
        return f"is out of range: use {word.get(kind, 'at most')} {bound:,}"
    return str(problem["msg"]).removeprefix("Value error, ")


def _field(name: str) -> Any:
    return next((field for field in Settings.model_fields.values() if field.alias == name), None)


def _description(name: str) -> str:
    return str(getattr(_field(name), "description", name))


def _is_secret(name: str) -> bool:
    return "SecretStr" in str(getattr(_field(name), "annotation", ""))


def _sources() -> dict[str, str]:
    try:
        return settings.sources()
    except ConfigurationError:
        return {}


@contextmanager
def _raising_at_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise StoppedBySignalError here, unless another part of the program takes them itself.

    Dagster does during a run, and does not say which one came: hence the pipe. A SIGINT that is ignored, as that of a
    job in the background is, stays so. A second signal ends the process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        if was_stopped() and len(_stopped_by) > 1:
            os._exit(128 + number)
        raise StoppedBySignalError(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _pipe.append(reading)
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)
    try:
        yield
    finally:
        was_stopped()
        _pipe.clear()
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
