"""Django on an ASGI server: `uvicorn django_asgi:application`. On gunicorn there is nothing to do.

Django takes no part in the lifespan protocol, so this does.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from headroom_events import HeadroomEvents

headroom = HeadroomEvents(os.environ["HEADROOM_URL"], os.environ["HEADROOM_KEY"])

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"])  # yours are in settings.py


def search(request: HttpRequest) -> JsonResponse:
    headroom.capture(request.GET["account"], endpoint="/search", status=200)
    return JsonResponse({"found": "nothing"})


urlpatterns = [path("search", search)]
django = get_asgi_application()


async def application(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
    if scope["type"] != "lifespan":
        await django(scope, receive, send)
        return
    await receive()  # the start
    await send({"type": "lifespan.startup.complete"})
    await receive()  # the end
    await asyncio.to_thread(headroom.close, 5.0)
    await send({"type": "lifespan.shutdown.complete"})
