"""Flask, or any other WSGI application: `gunicorn --config gunicorn.conf.py flask_app:app`.

Or `uwsgi --enable-threads --http-socket :8000 --module flask_app:app`. Without `enable-threads` uWSGI stops the
thread that sends events.
"""

import os

from flask import Flask, request
from headroom_events import HeadroomEvents

headroom = HeadroomEvents(os.environ["HEADROOM_URL"], os.environ["HEADROOM_KEY"])
app = Flask(__name__)

try:
    import uwsgi
except ImportError:
    pass  # another server
else:
    uwsgi.atexit = headroom.close  # for a worker's end


@app.get("/search")
def search() -> dict[str, str]:
    headroom.capture(request.args["account"], endpoint="/search", status=200)
    return {"found": "nothing"}
