"""FastAPI, or anything else on Starlette: `uvicorn fastapi_main:app`.

uvicorn ends itself by the SIGTERM that it got, so atexit never runs. The lifespan does.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from headroom_events import HeadroomEvents

headroom = HeadroomEvents(os.environ["HEADROOM_URL"], os.environ["HEADROOM_KEY"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(headroom.close, 5.0)


app = FastAPI(lifespan=lifespan)


@app.get("/search")
def search(account: str) -> dict[str, str]:
    headroom.capture(account, endpoint="/search", status=200)
    return {"found": "nothing"}
