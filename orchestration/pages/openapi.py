"""The description of the addresses for machines, as OpenAPI 3.1."""

from typing import Any

from orchestration.pages.limits import MOST_WAIT_SECONDS
from orchestration.warehouse import limits

_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_AT = {"type": ["string", "null"], "format": "date-time"}
_COUNT = {"type": ["string", "null"], "pattern": r"^-?\d+(\.\d+)?$", "description": "exact, in the meter's unit"}
_METER = {
    "type": "object",
    "required": ["meter", "unit", "period_start", "resets_at", "used", "quota", "remaining", "pct", "limit"],
    "additionalProperties": False,
    "properties": {
        "meter": _TEXT,
        "unit": _TEXT,
        "period_start": _AT,
        "resets_at": {**_AT, "description": "the end of the usage period, UTC; usage starts at 0 then"},
        "used": _COUNT,
        "quota": {**_COUNT, "description": "null: not known, or unlimited"},
        "remaining": _COUNT,
        "pct": {**_COUNT, "description": "percent of the quota"},
        "limit": {
            **_MAYBE,
            "description": "past the quota. hard: refused, soft: overage, throttle: slowed down, monitor: served",
        },
    },
}
_ACCOUNT = {
    "type": "object",
    "required": ["account_id", "name", "data_through", "as_of", "meters"],
    "additionalProperties": False,
    "properties": {
        "account_id": _TEXT,
        "name": _MAYBE,
        "data_through": {**_AT, "description": "the newest event that is counted"},
        "as_of": {**_AT, "description": "when it was counted"},
        "meters": {"type": "array", "items": {"$ref": "#/components/schemas/Meter"}},
    },
}
_ACCOUNTS = {
    "type": "object",
    "required": ["accounts", "next"],
    "additionalProperties": False,
    "properties": {
        "accounts": {"type": "array", "items": {"$ref": "#/components/schemas/Account"}},
        "next": {**_MAYBE, "description": "what to send as `after` for the next ones; null at the end"},
    },
}
_LIMITS = {
    "type": "object",
    "required": [
        "version",
        "published_at",
        "data_through",
        "env",
        "meters",
        "plans",
        "columns",
        "accounts",
        "subjects",
    ],
    "properties": {
        "version": {"const": limits.VERSION},
        "published_at": _AT,
        "data_through": _AT,
        "env": _TEXT,
        "usage_url": {**_MAYBE, "description": "where customers see their usage"},
        "meters": {"type": "object"},
        "plans": {"type": "object"},
        "columns": {"const": list(limits.COLUMNS)},
        "accounts": {"type": "array", "items": {"type": "array"}, "description": "rows of the columns"},
        "subjects": {"type": "array", "items": {"type": "array"}, "description": "subject, account, from, until"},
    },
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": _TEXT}}


def _answers(*schemas: str) -> dict[str, Any]:
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in schemas]
    schema: dict[str, Any] = {"oneOf": refs} if len(refs) > 1 else dict(refs[0])
    found = {"application/json": {"schema": schema}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    said = {
        "401": "no key, or one that is not valid",
        "404": "no such account for this key",
        "429": "too many wrong keys; see Retry-After",
        "503": "there are no figures now; see Retry-After",
    }
    return {
        "200": {"description": "usage", "content": found},
        "304": {"description": "unchanged since the ETag of If-None-Match"},
        **{status: {"description": text, "content": error} for status, text in said.items()},
    }


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headroom usage", "version": "1"},
        "security": [{"key": []}],
        "paths": {
            "/v1/usage": {
                "get": {
                    "operationId": "usage",
                    "summary": "The usage of a customer's own account; inside the company, of all accounts",
                    "parameters": [
                        {"name": "after", "in": "query", "schema": _TEXT, "description": "accounts after this id"}
                    ],
                    "responses": _answers("Account", "Accounts"),
                }
            },
            "/v1/accounts/{account_id}/usage": {
                "get": {
                    "operationId": "accountUsage",
                    "summary": "The usage of one account",
                    "parameters": [{"name": "account_id", "in": "path", "required": True, "schema": _TEXT}],
                    "responses": _answers("Account"),
                }
            },
            "/v1/limits": {
                "get": {
                    "operationId": "limits",
                    "summary": "For gates: where each account stands against its limits. Needs the key of a gate",
                    "parameters": [
                        {
                            "name": "wait",
                            "in": "query",
                            "schema": {"type": "integer", "minimum": 0, "maximum": MOST_WAIT_SECONDS, "default": 0},
                            "description": "seconds to wait for a newer snapshot than that of If-None-Match",
                        }
                    ],
                    "responses": _answers("Limits"),
                }
            },
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Account": _ACCOUNT,
                "Accounts": _ACCOUNTS,
                "Meter": _METER,
                "Limits": _LIMITS,
                "Error": _ERROR,
            },
        },
    }
