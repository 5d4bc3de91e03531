"""The API of examples/gate_main.py as people write it with FastAPI."""

from fastapi import FastAPI
from gate_main import gate, lifespan, readiness

from headroom_gate.asgi import GateMiddleware

app = FastAPI(lifespan=lifespan)
app.add_middleware(GateMiddleware, gate=gate)
app.add_route("/readyz", readiness)


@app.get("/v1/reports/{number}")
async def report(number: str) -> dict[str, str]:
    return {"found": number}


@app.get("/v1/search/{number}")
async def search(number: str) -> dict[str, str]:
    return {"found": number}
