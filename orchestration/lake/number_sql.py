"""The SQL that reads a number exactly from its text, as a whole number of smallest steps: 3.412 is 3412 of 0.001.

Which numbers count, and why others are refused, is in `usage/meters.py`. JSON's own numbers are text by then, as the
lake has them: 1e3 is 1000.0 there.
"""

from orchestration.usage.meters import MAX_STEPS, MAX_TEXT, NUMBER, Refusal

_ANY_NUMBER = r"[0-9]+(\.[0-9]+)?"


def steps(text: str, decimals: str) -> str:
    """The number as hugeint; null where the text is no number, has more places or more than 38 digits."""
    return rf"""case
        when regexp_full_match({text}, '{_ANY_NUMBER}') and strlen({_places(text)}) <= {decimals}
            then {_whole_steps(text, decimals)}
    end"""


def refusal(text: str, decimals: str) -> str:
    """Why a value is not counted; null where it is."""
    return rf"""case
        when coalesce({text}, '') = '' then '{Refusal.NO_VALUE}'
        when regexp_full_match({text}, '-{_ANY_NUMBER}') then '{Refusal.NEGATIVE}'
        when not regexp_full_match({text}, '{_ANY_NUMBER}') then '{Refusal.NOT_A_NUMBER}'
        when not regexp_full_match({text}, '{NUMBER}') or {_whole_steps(text, decimals)} > {MAX_STEPS}
            then '{Refusal.TOO_LARGE}'
        when strlen({_places(text)}) > {decimals} then '{Refusal.TOO_MANY_PLACES}'
    end"""


def text_refusal(text: str, kind: str) -> str:
    """The same of a value of unique, whose JSON type is `kind`."""
    return f"""case
        when coalesce({text}, '') = '' or {kind} in ('ARRAY', 'OBJECT') then '{Refusal.NO_VALUE}'
        when length({text}) > {MAX_TEXT} then '{Refusal.TOO_LARGE}'
    end"""


def _places(text: str) -> str:
    """The significant digits behind the point."""
    return f"rtrim(split_part({text}, '.', 2), '0')"


def _whole_steps(text: str, decimals: str) -> str:
    """The steps that a number has, without places that are too many."""
    padded = f"rpad({_places(text)}, {decimals}, '0')"  # which cuts off as well
    return f"try_cast(split_part({text}, '.', 1) || {padded} as hugeint)"
