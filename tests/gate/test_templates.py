"""Paths and their route templates."""

import pytest

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


def test_no_templates_match_nothing() -> None:
    assert Templates([]).match("/") is None
