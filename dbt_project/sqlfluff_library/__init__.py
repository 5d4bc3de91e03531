"""What sqlfluff reads in place of the project's macros: it knows nothing of dbt's context, so it cannot run them.

Each macro of macros/ is found there, so that a new one needs nothing here. Its stand-in gives what fits where
a macro of its kind may stand: a query for a macro that begins with one, the list or mapping that a macro returns, for
all others a call of a function with the macro's name and arguments.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path

MACROS = Path(__file__).parents[1] / "macros"
MACRO = re.compile(r"{%-?\s*macro\s+(\w+)\((.*?)\)\s*-?%}(.*?){%-?\s*endmacro", re.DOTALL)
TAG = re.compile(r"{#.*?#}|{%.*?%}", re.DOTALL)
LITERAL = re.compile(r"\s*{{\s*return\(([\[{].*)\)\s*}}\s*", re.DOTALL)
TABLES = {"relation", "step"}
"""Parameters that are given the name of a table. Bare, the name would be taken for a column without its table."""
TEXTS = {"field"}
"""Parameters that are given a text, not SQL."""


def _stand_in(name: str, parameters: list[str]) -> Callable[..., str]:
    def call(*values: object, **named: object) -> str:
        given = {**dict(zip(parameters, values, strict=False)), **named}
        return f"{name}({', '.join(_argument(key, value) for key, value in given.items())})"

    return call


def _argument(parameter: str, value: object) -> str:
    if parameter in TABLES:
        return f"{value}.x"
    return f"'{value}'" if parameter in TEXTS else str(value)


def _value(text: str) -> Callable[[], object] | None:
    """What a macro gives that returns a list or a mapping of texts; None for all others."""
    literal = LITERAL.fullmatch(text)
    try:
        value = ast.literal_eval(literal[1].strip()) if literal else None
    except (SyntaxError, ValueError):
        return None
    return None if value is None else lambda: value


def _query(name: str) -> Callable[..., str]:
    return lambda *_, **__: f"select * from {name}"


for _path in sorted(MACROS.glob("*.sql")):
    for _name, _parameters, _body in MACRO.findall(_path.read_text()):
        _is_query = TAG.sub("", _body).split()[:1] == ["select"]
        _names = re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", _parameters)
        globals()[_name] = _query(_name) if _is_query else _value(_body) or _stand_in(_name, _names)
