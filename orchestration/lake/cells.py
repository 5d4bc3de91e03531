"""One cell of a file of accounts: its text becomes a value. Pure.

Which columns there are is in `account_files.py`. Each ValueError says what is wrong with the text, as the end of a
sentence.
"""

import re
import unicodedata
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation

_INVISIBLE = "\ufeff\u200b\u2060"
"""Byte order mark, zero width space, word joiner: no blanks to Python, and nothing to people."""
_AROUND = re.compile(rf"^[\s{_INVISIBLE}]+|[\s{_INVISIBLE}]+$")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_GROUPED = (
    (re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d*|[+-]?\d{1,3}(,\d{3}){2,}"), ",", "."),
    (re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d*|[+-]?\d{1,3}(\.\d{3}){2,}"), ".", ","),
    (re.compile(r"[+-]?\d{1,3}([ \u00a0\u202f'\u2019]\d{3})+([.,]\d*)?"), " \u00a0\u202f'\u2019", ","),
    (re.compile(r"[+-]?\d+,(\d{1,2}|\d{4,})"), "", ","),
)
"""Numbers that can only be read in one way: their groups' separators, and their decimal comma. 1,010 is not here: it is
a thousand and ten in one country, and a little more than one in another."""


def strip(text: str | None) -> str:
    """The text without blanks around it, those that nobody sees included."""
    if not text or text.isascii():  # nearly all are, and take a sixth of the time
        return (text or "").strip()
    return _AROUND.sub("", text)


def identifier(text: str | None, *, has_blanks: bool = True) -> str:
    """An id without blanks around it; without `has_blanks`, none may be inside of it either.

    :raises ValueError: it is empty, or has a character inside that cannot be seen.
    """
    found = strip(text)
    if not found:
        raise ValueError("is empty")
    is_plain = found.isascii() and found.isprintable()
    if not is_plain and any(unicodedata.category(letter) == "Cc" or letter in _INVISIBLE for letter in found):
        raise ValueError("has an invisible character inside")
    if not has_blanks and re.search(r"\s", found):
        raise ValueError("has a blank inside")
    return found


def value(text: str | None, kind: str) -> object:
    """The value of a type, None where the cell is empty.

    :raises ValueError: the text is none of that type.
    """
    found = strip(text)
    if not found:
        return None
    if kind == "date":
        return _date(found)
    if kind == "boolean":
        if found.lower() not in _WORDS:
            raise ValueError("is neither yes nor no")
        return _WORDS[found.lower()]
    if kind.startswith("decimal"):
        return amount(found)
    return found


def amount(text: str) -> Decimal:
    """A number to the cent, with thousands separators where they leave no doubt.

    :raises ValueError: it is not a number, or could be two.
    """
    plain = text
    for shape, separators, comma in _GROUPED:
        if shape.fullmatch(text):
            plain = "".join(letter for letter in text if letter not in separators).replace(comma, ".")
            break
    try:
        number = Decimal(plain)
        if not number.is_finite():
            raise ValueError("is not a number")
        cents = number.quantize(Decimal("0.01"))
    except InvalidOperation:
        could_be_two = re.fullmatch(r"[+-]?\d{1,3},\d{3}", text)
        raise ValueError("could be two numbers: write a decimal point" if could_be_two else "is not a number") from None
    if abs(cents) >= 10**15:
        raise ValueError("is not a number below 10^15")
    return cents


def moment(text: str | None, *, is_hourly: bool) -> datetime | None:
    """A time in UTC, None where the cell is empty. A date is its midnight, UTC.

    :raises ValueError: it cannot be read, has no offset, or is on no full hour though it must be.
    """
    found = strip(text)
    if not found:
        return None
    try:
        at = datetime.combine(date.fromisoformat(found), time(), UTC)
    except ValueError:
        try:
            at = datetime.fromisoformat(found)
        except ValueError:
            raise ValueError("is not a time, such as 2026-11-20T08:00:00Z") from None
    if at.tzinfo is None:
        raise ValueError("has no offset: write 2026-11-20T08:00:00Z for UTC")
    try:
        at = at.astimezone(UTC)
    except OverflowError:
        raise ValueError("is not a time, such as 2026-11-20T08:00:00Z") from None
    if is_hourly and (at.minute, at.second, at.microsecond) != (0, 0, 0):
        raise ValueError("is not a full hour in UTC")
    return at


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date, such as 2026-11-20") from None
