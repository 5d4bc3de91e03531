"""Stripe's plain objects: a store with create, list, retrieve and update, and what every answer has in common.

Objects with rules of their own are subclasses of Collection. What is unknown is refused, as Stripe does: a filter or
a parameter that a test relies on is either here or fails.
"""

from __future__ import annotations

import copy
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from tests.fakes.stripe import FakeStripe

Json = dict[str, Any]
INTEGERS = {
    "amount_gte",
    "backdate_start_date",
    "billing_cycle_anchor",
    "cancel_at",
    "created",
    "divide_by",
    "effective_at",
    "end_time",
    "expires_at",
    "flat_amount",
    "frozen_time",
    "gt",
    "gte",
    "limit",
    "lt",
    "lte",
    "priority",
    "quantity",
    "start_time",
    "timestamp",
    "trial_end",
    "trial_period_days",
    "unit_amount",
    "up_to",
    "value",
}
"""Parameters that are numbers in the answers. A form has only texts, and `5` as a decimal price stays one."""
TEXTS = {"metadata", "payload"}
"""Maps of texts, whatever these look like."""
PAGE = {"limit", "starting_after", "expand"}


class RefusedError(Exception):
    """An answer other than success."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers
        fields = {"message": message, "type": kind, "code": code, "param": param}
        self.body = json.dumps({"error": {name: value for name, value in fields.items() if value is not None}})


def missing(kind: str, number: str, param: str = "id", status: int = 404) -> RefusedError:
    return RefusedError(f"No such {kind}: '{number}'", status=status, code="resource_missing", param=param)


@dataclass(frozen=True)
class Request:
    """What came in. Parameters are nested, as they were before the SDK made a form of them."""

    method: str
    path: str
    params: Json = field(default_factory=dict)
    key: str = ""
    idempotency_key: str | None = None

    @property
    def is_live(self) -> bool:
        return self.key.startswith(("sk_live_", "rk_live_"))


def decoded(form: str) -> Json:
    """`items[0][price]=p` as {"items": [{"price": "p"}]}, with the numbers and booleans that Stripe makes of texts."""
    params: Json = {}
    for name, text in parse_qsl(form, keep_blank_values=True):
        first, *parts = re.split(r"\]?\[", name.removesuffix("]"))
        level, key = params, first
        for part in parts:
            level, key = level.setdefault(key, {}), part
        level[key] = text if first in TEXTS else _typed(key, text)
    return {name: value if name in TEXTS else _lists(value) for name, value in params.items()}


def _typed(name: str, text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if name in INTEGERS and re.fullmatch(r"-?\d+", text) else text


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: inside if name in TEXTS else _lists(inside) for name, inside in value.items()}
    return list(inner.values()) if inner and all(name.isdigit() for name in inner) else inner


def required(params: Json, *names: str) -> None:
    for name in names:
        if params.get(name) in (None, ""):
            raise RefusedError(f"Missing required param: {name}.", code="parameter_missing", param=name)


def known(params: Json, names: Iterable[str]) -> None:
    for name in params.keys() - set(names):
        raise RefusedError(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def page_size(request: Request) -> int:
    limit = request.params.get("limit", 10)
    if not isinstance(limit, int) or not 1 <= limit <= 100:
        raise RefusedError(f"Invalid limit: {limit}; must be between 1 and 100", param="limit")
    return limit


def paged(found: list[Json], request: Request) -> Json:
    """One page of a list; `found` is in the order in which it is shown."""
    limit, after, start = page_size(request), request.params.get("starting_after"), 0
    if after is not None:
        ids = [each["id"] for each in found]
        if after not in ids:
            raise missing("object", after, "starting_after", 400)
        start = ids.index(after) + 1
    end = start + limit
    return {"object": "list", "url": request.path, "has_more": end < len(found), "data": found[start:end]}


class Collection:
    """Objects of one kind under one path."""

    def __init__(
        self,
        stripe: FakeStripe,
        kind: str,
        prefix: str,
        *,
        permission: str | None = None,
        filters: Iterable[str] = (),
        hidden: Iterable[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.stripe, self.kind, self.prefix = stripe, kind, prefix
        self.permission = permission or kind
        """A restricted key needs it with `_read` or `_write`."""
        self.filters = {*filters}
        """Fields that a list may be filtered by."""
        self.hidden = {*hidden}
        """Fields that are shown only where a request expands them."""
        self.defaults = defaults or {}
        """What an object has where its creator says nothing."""
        self.actions: dict[tuple[str, str], Callable[[Request, Json], Json]] = {}
        """By method and last part of `<path>/<id>/<part>`."""
        self.objects: dict[str, Json] = {}
        """As stored, by id, oldest first. Tests may change them."""

    def call(self, request: Request, rest: list[str]) -> Json:
        """The answer to a request under this path; `rest` is what follows in its address."""
        if not rest:
            return self._created(request) if request.method == "POST" else self._list(request)
        stored = self.find(rest[0])
        if len(rest) > 1:
            action = self.actions.get((request.method, rest[1]))
            if not action:
                raise RefusedError(f"Unrecognized request URL ({request.method}: {request.path}).", status=404)
            return action(request, stored)
        if request.method == "DELETE":
            return self.delete(rest[0])
        if request.method == "POST" and not stored.get("deleted"):
            self.change(stored, _without_expand(request.params))
        return self.shown(request, stored)

    def find(self, number: str) -> Json:
        if number not in self.objects:
            raise missing(self.kind.rpartition(".")[2], number)
        return self.objects[number]

    def add(self, number: str | None = None, **fields: Any) -> Json:
        """A new object, as if created by somebody else; unchecked."""
        number = number or f"{self.prefix}_{self.stripe.next_number()}"
        base = {"id": number, "object": self.kind, "created": self.stripe.now, "metadata": {}}
        self.objects[number] = {**base, **copy.deepcopy(dict(self.defaults)), **fields}
        return self.objects[number]

    def delete(self, number: str) -> Json:
        self.find(number)
        self.objects[number] = {"id": number, "object": self.kind, "deleted": True}
        return self.objects[number]

    def create(self, params: Json) -> Json:
        """Checks and completes; a subclass does more before or after."""
        number = params.pop("id", None)
        if number in self.objects:
            raise RefusedError(f"{self.kind.title()} already exists.", code="resource_already_exists", param="id")
        self._claim_lookup_key(params)
        return self.add(number, **params)

    def change(self, stored: Json, params: Json) -> None:
        self._claim_lookup_key(params, stored["id"])
        metadata = {**stored["metadata"], **params.pop("metadata", {})}
        stored.update({name: None if value == "" else value for name, value in params.items()})
        stored["metadata"] = {name: value for name, value in metadata.items() if value != ""}

    def matches(self, stored: Json, params: Json) -> bool:
        """Whether a list with these parameters has the object."""
        wanted = {name: value for name, value in params.items() if name in self.filters}
        return all(
            stored.get("lookup_key") in value if name == "lookup_keys" else stored.get(name) == value
            for name, value in wanted.items()
        )

    def shown(self, request: Request, stored: Json) -> Json:
        """The object as an answer has it."""
        shown = copy.deepcopy(stored)
        if not stored.get("deleted"):
            shown["livemode"] = request.is_live
        paths = [path.removeprefix("data.").split(".") for path in request.params.get("expand", ())]
        for name in self.hidden - {path[0] for path in paths}:
            shown.pop(name, None)
        for path in paths:
            self._expand(request, shown, path)
        return shown

    def _expand(self, request: Request, shown: Any, path: list[str]) -> None:
        """Replaces ids by the objects that they name."""
        if isinstance(shown, list):
            for each in shown:
                self._expand(request, each, path)
        elif path and isinstance(shown, dict) and shown.get(path[0]) is not None:
            if isinstance(shown[path[0]], str):
                shown[path[0]] = self.stripe.found(request, shown[path[0]])
            self._expand(request, shown[path[0]], path[1:])

    def _created(self, request: Request) -> Json:
        return self.shown(request, self.create(_without_expand(request.params)))

    def _list(self, request: Request) -> Json:
        known(request.params, self.filters | PAGE)
        newest_first = [each for each in reversed(self.objects.values()) if not each.get("deleted")]
        page = paged([each for each in newest_first if self.matches(each, request.params)], request)
        return {**page, "data": [self.shown(request, each) for each in page["data"]]}

    def _claim_lookup_key(self, params: Json, owner: str | None = None) -> None:
        """A key names one object; it is taken from another, which else stays as it is, only where that is asked."""
        is_transferred, key = params.pop("transfer_lookup_key", False), params.get("lookup_key")
        for other in self.objects.values():
            if key and other.get("lookup_key") == key and other["id"] != owner:
                if not is_transferred:
                    text = f"A {self.kind} (`{other['id']}`) already uses that lookup key."
                    raise RefusedError(text, param="lookup_key")
                other["lookup_key"] = None


def _without_expand(params: Json) -> Json:
    return {name: copy.deepcopy(value) for name, value in params.items() if name != "expand"}


def is_within(moment: int, asked: Json | int) -> bool:
    """Whether a list that is filtered by a moment, or by bounds of it, has this one."""
    bounds = {"gte": asked, "lte": asked} if isinstance(asked, int) else asked
    ways = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
    known(bounds, ways)
    return all(ways[name](moment, bound) for name, bound in bounds.items())
