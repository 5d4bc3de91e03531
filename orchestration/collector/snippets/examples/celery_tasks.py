"""Celery: `celery --app celery_tasks worker`. Its worker processes end without atexit."""

import os
from typing import Any

from celery import Celery, signals
from headroom_events import HeadroomEvents

headroom = HeadroomEvents(os.environ["HEADROOM_URL"], os.environ["HEADROOM_KEY"])
app = Celery("tasks", broker=os.environ.get("CELERY_BROKER_URL"))


@signals.worker_process_shutdown.connect  # each process of the default pool
@signals.worker_shutdown.connect  # the other pools, which run tasks in this process
def send_what_is_left(**_: Any) -> None:
    headroom.close(5.0)


@app.task
def search(account: str) -> None:
    headroom.capture(account, endpoint="/search", status=200)
