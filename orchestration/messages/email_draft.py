"""The draft of an e-mail to a customer, from a template that users can edit. It is shown to colleagues, never sent."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

NAME = "customer_email.txt.jinja"
SHIPPED = Path(__file__).resolve().parent / "templates"


class DraftError(RuntimeError):
    """The template cannot be used. The message says where and why."""


def draft(letter: Mapping[str, Any], folder: Path | None) -> str:
    """The draft of one letter, by the template in `folder`; without one, or if it has none, by that of Headroom.

    :raises DraftError: the template is wrong, or names what a letter does not have.
    """
    # sandboxed: the folder may belong to somebody who may write texts, not run code. No autoescape: it is no HTML.
    folders = [path for path in (folder, SHIPPED) if path]
    environment = SandboxedEnvironment(loader=FileSystemLoader(folders), undefined=StrictUndefined)
    try:
        return environment.get_template(NAME).render(letter).strip()
    except TemplateSyntaxError as error:
        raise DraftError(_sentence(error.filename or NAME, error.lineno, error)) from error
    except (TemplateError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        # jinja2 gives its code the template's file name and line numbers
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == NAME]
        place = (frames[-1].filename, frames[-1].lineno) if frames else (NAME, None)
        raise DraftError(_sentence(*place, error)) from error


def _sentence(file: str, line: int | None, error: Exception) -> str:
    where = f"{file}, line {line}" if line else file
    return f"no draft to the customer: {where}: {error}; correct the template, the next digest uses it"
