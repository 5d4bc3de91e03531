"""An API with a gate at its door: `uvicorn gate_main:app`. FastAPI takes the same arguments as Starlette here."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from headroom_gate import Gate, Limits
from headroom_gate.asgi import GateMiddleware
from headroom_gate.redis_counter import RedisCounter
from headroom_gate.spool import SpooledEvents


async def found(request: Request) -> JSONResponse:
    return JSONResponse({"found": request.path_params["id"]})


async def readiness(_: Request) -> JSONResponse:
    """For the load balancer, which has no key and is not counted: 503 until the gate has limits."""
    snapshot = limits.current
    return JSONResponse({"limits_of": snapshot and snapshot.published_at}, 200 if snapshot else 503)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(events.close)


routes = [Route("/v1/reports/{id}", found), Route("/v1/search/{id}", found), Route("/readyz", readiness)]
limits = Limits(os.environ["HEADROOM_GATE_LIMITS"], key=os.environ["HEADROOM_GATE_KEY"])
events = SpooledEvents(os.environ["HEADROOM_URL"], os.environ["HEADROOM_KEY"], os.environ["HEADROOM_GATE_SPOOL"])
redis = os.environ.get("HEADROOM_GATE_REDIS")  # without it each process counts for itself
gate = Gate(
    limits,
    counter=RedisCounter(redis) if redis else None,
    events=events,
    endpoints=[route.path for route in routes],  # so that refused calls have theirs, too
)
app = Starlette(routes=routes, middleware=[Middleware(GateMiddleware, gate=gate)], lifespan=lifespan)
