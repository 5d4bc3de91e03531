"""A sign of life to a monitor of yours, which alerts when the next one does not come."""

from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

SECONDS = 10


def send(url: str) -> str:
    """Ask for the address once; "" where it answered, else why not. Names its host alone: the path is a password."""
    host = urlsplit(url).hostname
    try:
        request = Request(url, headers={"User-Agent": "headroom"})  # noqa: S310 - the settings take http and https alone
        with urlopen(request, timeout=SECONDS):  # noqa: S310
            return ""
    except HTTPError as error:
        error.close()
        problem = f"answered {error.code}"
    except OSError as error:
        problem = f"gave no answer ({getattr(error, 'reason', None) or type(error).__name__})"
    except (HTTPException, ValueError) as error:
        problem = f"gave no answer ({type(error).__name__})"
    return f"the monitor at {host} {problem}: see HEADROOM_HEARTBEAT_URL"
