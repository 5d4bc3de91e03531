"""Our snippet for Python in a process of its own: captures, and says what got lost."""

import json
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
}
headroom = HeadroomEvents(URL, KEY, **options)
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
if INPUT.get("is_forking"):
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        headroom.capture("the child of the fork")
        sys.exit()
if INPUT.get("is_problem_expected"):
    while not headroom.problem:
        time.sleep(0.01)
    sys.stdout.write(headroom.problem + "\n")
    sys.stdout.flush()
if "close_seconds" in INPUT:
    headroom.close(INPUT["close_seconds"])
    headroom.close()
    for _ in range(INPUT.get("captures_after_close", 0)):
        headroom.capture("acme")
    sys.stdout.write(json.dumps({"dropped": headroom.dropped, "problem": headroom.problem, "seconds": seconds}) + "\n")
