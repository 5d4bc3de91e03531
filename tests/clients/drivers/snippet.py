"""Our snippet for Python in a process of its own: captures, and says what got lost."""

import ctypes
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

from driver_input import INPUT, KEY, URL

sys.path.insert(0, str(Path(INPUT["snippet"]).parent))
from headroom_events import HeadroomEvents

options = {
    "batch_size": INPUT.get("batch_size", 500),
    "max_age_seconds": INPUT.get("max_age_seconds", 1.0),
    "queue_size": INPUT.get("queue_size", 10_000),
    "refused_seconds": INPUT.get("refused_seconds", 900.0),
}
headroom = HeadroomEvents(URL, KEY, **options)


def capture(account_id: str) -> None:
    """What a worker of a pool can be sent."""
    headroom.capture(account_id)


started = time.perf_counter()
for properties in INPUT["captures"]:
    headroom.capture(properties.pop("account_id"), **properties)
if INPUT.get("is_bad_captured"):
    headroom.capture("acme", endpoint=object())
    headroom.capture("acme", latency=float("nan"))
    loop: dict[str, object] = {}
    loop["loop"] = loop
    headroom.capture("acme", loop=loop)
seconds = time.perf_counter() - started
if INPUT.get("child") == "fork":
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        headroom.capture("the child")
        sys.exit()
if INPUT.get("child") == "fork in C":  # as uWSGI does: without Python's hooks, and with an end of its own
    if child := ctypes.PyDLL(None).fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        headroom.capture("the child")
        headroom.close()
        os._exit(1 if headroom.dropped else 0)
if INPUT.get("child") == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=headroom.capture, args=("the child",))
    process.start()
    process.join()
if INPUT.get("child") == "pool":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(capture, ("the child",))
        pool.close()
        pool.join()
if INPUT.get("is_problem_expected"):
    while not headroom.problem:
        time.sleep(0.01)
    sys.stdout.write(headroom.problem + "\n")
    sys.stdout.flush()
for properties in INPUT.get("later_captures", []):
    headroom.flush(60)
    headroom.capture(properties.pop("account_id"), **properties)
if "close_seconds" in INPUT:
    headroom.close(INPUT["close_seconds"])
    headroom.close()
    for _ in range(INPUT.get("captures_after_close", 0)):
        headroom.capture("acme")
    sys.stdout.write(json.dumps({"dropped": headroom.dropped, "problem": headroom.problem, "seconds": seconds}) + "\n")
