"""The SQL that reads a number exactly from its text, as a whole number of smallest steps: 3.412 is 3412 of 0.001.

Which numbers count, and why others are refused, is in `usage/meters.py`. The macros `value_problem`, `steps` and
`key_problem` of the dbt project say the same, on both engines.
"""

from orchestration.usage.meters import MAX_STEPS, MAX_TEXT, NUMBER, Refusal


def steps(text: str, scale: str) -> str:
    """The number as bigint, one unit being `scale` steps; null where it is refused."""
    return f"case when {refusal(text, scale)} is null then cast({_decimal(text)} * {scale} as bigint) end"


def refusal(text: str, scale: str) -> str:
    """Why a value is not counted; null where it is."""
    number = _decimal(text)
    return f"""case
        when {text} is null then '{Refusal.NO_VALUE}'
        when not regexp_full_match({text}, '{NUMBER}') then '{Refusal.NOT_A_NUMBER}'
        when coalesce({number} < 0, substr({text}, 1, 1) = '-') then '{Refusal.NEGATIVE}'
        when coalesce({number} > cast({MAX_STEPS} as decimal(38, 0)) / {scale}, true) then '{Refusal.TOO_LARGE}'
        when {number} * {scale} <> floor({number} * {scale}) then '{Refusal.TOO_MANY_PLACES}'
    end"""


def text_refusal(text: str, kind: str) -> str:
    """The same of a value of unique, whose JSON type is `kind`."""
    return f"""case
        when coalesce({text}, '') = '' or {kind} in ('ARRAY', 'OBJECT') then '{Refusal.NO_VALUE}'
        when length({text}) > {MAX_TEXT} then '{Refusal.TOO_LARGE}'
    end"""


def _decimal(text: str) -> str:
    """Null where it has more than 20 digits before the point; behind it, it has 18."""
    return f"try_cast({text} as decimal(38, 18))"
