"""What a check of something outside has found, such as a channel's settings: for people, and for an exit status."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    subject: str
    problem: str = ""
    """What is wrong and what to do about it; empty where all is well."""
    is_needed: bool = True
    """Whether something fails because of the problem."""
