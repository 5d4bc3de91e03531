"""Paths and their route templates."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom_gate.templates import Templates

TEMPLATES = Templates(
    [
        *("/v1/{name}", "/v1/search", "/v1/items/{id:int}/parts", "/numbers/{id:int}", "/numbers/{name}"),
        *("/files/{rest:path}", "/flask/<int:id>", "/pages/<path:rest>", "/js/:id", "/a.b"),
    ]
)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/search", "/v1/search"),
        ("/v1/other", "/v1/{name}"),
        ("/v1/items/7/parts", "/v1/items/{id:int}/parts"),
        ("/flask/7", "/flask/<int:id>"),
        ("/files/a/b/c", "/files/{rest:path}"),
        ("/files/", "/files/{rest:path}"),
        ("/pages/a/b", "/pages/<path:rest>"),
        ("/pages/", None),
        ("/numbers/7", "/numbers/{id:int}"),
        ("/numbers/seven", "/numbers/{name}"),
        ("/flask/seven", None),
        ("/js/7", "/js/:id"),
        ("/a.b", "/a.b"),
        ("/axb", None),
        ("/v1/items/7/parts/8", None),
        ("/v1/", None),
        ("", None),
    ],
)
def test_path_has_its_template(path: str, template: str | None) -> None:
    assert TEMPLATES.match(path) == template


@pytest.mark.parametrize(
    ("template", "path", "is_match"),
    [
        ("/files/{name}.{ext}", "/files/a.b.c", True),
        ("/files/{name}.{ext}", "/files/a.b/c", False),
        ("/files/{name}.{ext}", "/files/.", False),
        ("/files/{name}.{ext}.gz", "/files/a.tar.b.gz", True),
        ("/files/{name}.{ext}.gz", "/files/a.gz", False),
        ("/{a}-{b}-{c}", "/1-2-3-4", True),
        ("/{a}{b}", "/12", True),
        ("/{a}{b}", "/1", False),
        ("/{rest:path}/items/{id}", "/p/items/a/items/7", True),
        ("/{rest:path}.{ext}", "/a.b/c.d", True),
        ("{rest:path}", "any/thing", True),
    ],
)
def test_template_with_many_parameters_matches_as_frameworks_do(template: str, path: str, is_match: bool) -> None:
    assert (Templates([template]).match(path) == template) is is_match


PIECES = st.sampled_from(["/", "a", "b", ".", "7", "{x}", "{x:int}", "{x:path}"])


@given(st.lists(st.lists(PIECES, min_size=1, max_size=6), max_size=4), st.text("/ab.7", max_size=8))
def test_first_template_that_matches_is_found(parts: list[list[str]], path: str) -> None:
    templates = ["".join(each) for each in parts]
    kinds = {"{x}": "[^/]+", "{x:int}": "[0-9]+", "{x:path}": ".*"}
    plain = ["".join(kinds.get(piece) or re.escape(piece) for piece in each) for each in parts]
    matching = [template for template, pattern in zip(templates, plain, strict=True) if re.fullmatch(pattern, path)]
    expected = path if path in matching else next(iter(matching), None)
    assert Templates(templates).match(path) == expected


def test_hostile_path_takes_no_time_to_speak_of() -> None:
    templates = Templates(["/files/{name}.{ext}", "/files/{name}.{part}.{ext}"])
    assert templates.match("/files/" + "." * 60_000 + "/") is None


def test_no_templates_match_nothing() -> None:
    assert Templates([]).match("/") is None
