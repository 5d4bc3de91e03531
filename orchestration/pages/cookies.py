"""The cookie that a link leaves. Written here, for Python before 3.14 knows no `Partitioned`."""

from datetime import UTC, datetime
from email.utils import format_datetime


def cookie(name: str, secret: str, path: str, until: datetime, *, is_secure: bool, is_embedded: bool) -> str:
    """The value of Set-Cookie. `secret` is one of our keys, which needs no quoting.

    Inside a page of another site a browser keeps it only over TLS, and for that site alone.
    """
    parts = [f"{name}={secret}", f"Path={path}", f"Expires={format_datetime(until.astimezone(UTC), usegmt=True)}"]
    parts += ["HttpOnly", f"SameSite={'None' if is_embedded else 'Lax'}"]
    parts += ["Secure"] * is_secure + ["Partitioned"] * is_embedded
    return "; ".join(parts)
