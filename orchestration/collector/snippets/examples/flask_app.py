"""Flask, or any other WSGI application.

- `gunicorn flask_app:app`: nothing to do, its workers run atexit.
- `uwsgi --enable-threads --http-socket :8000 --module flask_app:app`: without `enable-threads` it may stop the thread
  that sends events.
- `python flask_app.py`, waitress, a script of yours: SIGTERM ends them at once, unless it is made an exit.
"""

import os
import signal
import sys

from flask import Flask, request
from headroom_events import HeadroomEvents

headroom = HeadroomEvents(os.environ["HEADROOM_URL"], os.environ["HEADROOM_KEY"])
app = Flask(__name__)

try:
    import uwsgi
except ImportError:
    pass  # another server
else:
    uwsgi.atexit = headroom.close  # waits for 5 seconds at most


@app.get("/search")
def search() -> dict[str, str]:
    headroom.capture(request.args["account"], endpoint="/search", status=200)
    return {"found": "nothing"}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    app.run(port=int(sys.argv[1]))
