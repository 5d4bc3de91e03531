"""The limit in Starlette: one answer that never changes, on uvicorn as the pages are."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ANSWER = b'{"account_id":"account-1","meters":[{"meter":"api-calls","used":"123456","quota":"200000"}]}'


def usage(_request: Request) -> Response:
    return Response(ANSWER, media_type="application/json")


if __name__ == "__main__":
    application = Starlette(routes=[Route("/v1/accounts/{account_id:path}/usage", usage)])
    uvicorn.run(application, port=int(sys.argv[1]), access_log=False, log_level="warning")
