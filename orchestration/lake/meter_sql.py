"""What the meters decide of a landed line, for `event_sql.py`: which events count, and which quotas an event sets.

The meters are parameters of its queries, never a part of their text. A quota_set event with a `metric` sets the quota
of that meter, by the meter's own quota property if it is there, else by QUOTA_FIELDS. Without one it sets the quota of
each meter whose property is there, and by QUOTA_FIELDS that of the main meter.
"""

import re
from collections.abc import Sequence

from orchestration.lake.number_sql import refusal
from orchestration.usage import events, meters
from orchestration.usage.meters import Meter


def bare_names(of: Sequence[Meter]) -> tuple[str, ...]:
    """Names of calls of which no meter reads a property."""
    read = {name for meter in of if meter.paths for name in meter.event_names}
    return tuple(name for name in events.API_CALL if name not in read)


def read_terms(of: Sequence[Meter]) -> dict[str, object]:
    """The parameters of READ_LINES that the meters decide."""
    return {"counted": list(meters.event_names(of)), "bare": list(bare_names(of))}


def judge_terms(of: Sequence[Meter]) -> dict[str, object]:
    """Those of JUDGE_LINES."""
    known = [*meters.event_names(of), *events.OTHER_EVENTS]
    quotas = [
        {
            "name": meter.name,
            "is_main": meter.is_main,
            "scale": meter.scale,
            "quota_path": f"$.{meter.quota_property}" if meter.quota_property else None,
        }
        for meter in of
    ]
    said = "|".join(rf"\b{re.escape(name)}\b" for name in known)
    return {**read_terms(of), "known": known, "said": said, "meters": quotas}


_METERS = "cast($meters as struct(name varchar, is_main boolean, scale bigint, quota_path varchar)[])"
OWN_QUOTAS = f"""list_transform(
            list_filter({_METERS}, lambda meter: coalesce(metric, meter.name) = meter.name
                and json_exists(properties, meter.quota_path)),
            lambda meter: {{
                'text': json_extract_string(properties, meter.quota_path), 'scale': meter.scale
            }}
        )"""
"""The quotas that an event sets by properties that meters name: as text, null for no limit."""
_SCALE = f"""coalesce(list_filter(
            {_METERS}, lambda meter: case when metric is null then meter.is_main else meter.name = metric end
        )[1].scale, 1)"""
"""Of the meter whose quota is in QUOTA_FIELDS: how many steps a unit has. That of an unknown one is a whole number."""


def _is_quota(text: str, scale: str) -> str:
    return f"({text} is null or {refusal(text, scale)} is null)"


HAS_QUOTAS = f"""(case
            when quota_type is null or (metric is not null and len(own_quotas) > 0) then len(own_quotas) > 0
            else {_is_quota("quota_text", _SCALE)}
        end and len(list_filter(own_quotas, lambda each: not {_is_quota("each.text", "each.scale")})) = 0)"""
"""Whether an event sets a quota, and each that it sets is one."""
