"""gunicorn with Flask, Django or any other WSGI application: the end of a worker, whatever ended it."""

from typing import Any


def worker_exit(_server: Any, _worker: Any) -> None:
    from flask_app import headroom

    headroom.close(5.0)  # less than graceful_timeout, which is 30 seconds
