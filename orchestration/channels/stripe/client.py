"""Stripe's SDK, set up in one place, and what its errors mean in sentences. What is asked of Stripe is elsewhere."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import stripe
from stripe import StripeClient as StripeClient

from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.settings import Settings

TIMEOUT_SECONDS = 10

_REMEDIES = {
    401: "STRIPE_API_KEY is not valid: copy a secret (sk_…) or restricted key (rk_…) from Stripe's Developers page",
    403: "give the key {permission} in Stripe's Developers page; `headroom stripe check` tries all that is read",
    429: "it takes no more requests for the moment; run again in a minute",
}


def connect(config: Settings) -> StripeClient | None:
    """Stripe as the environment configures it; None without a key. Nothing is asked yet.

    Nothing is repeated by the SDK: whether that is safe is for the caller to know.

    :raises ValueError: a key that is none, or a live one outside production.
    """
    if config.stripe_api_key is None:
        return None
    key = config.stripe_api_key.get_secret_value().strip()
    if not re.fullmatch("(sk|rk)_(test|live)_[!-~]+", key):
        raise ValueError("STRIPE_API_KEY is not a secret key (sk_test_…, sk_live_…) or a restricted one (rk_…)")
    if is_live(config) and not config.is_production:
        raise ValueError(
            f"STRIPE_API_KEY is a live key and HEADROOM_ENV is {config.env!r}: real customers would be billed; set a"
            " test key (sk_test_… or rk_test_…), or HEADROOM_ENV=production"
        )
    stripe.enable_telemetry = False  # the SDK knows no setting for one client
    base = (config.stripe_api_base or "").rstrip("/")
    return StripeClient(
        key,
        base_addresses={"api": base, "meter_events": base} if base else None,
        http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
        max_network_retries=0,
    )


def is_live(config: Settings) -> bool:
    """Whether the key reaches real customers."""
    key = config.stripe_api_key.get_secret_value() if config.stripe_api_key else ""
    return re.match(r"\s*[sr]k_live_", key) is not None


def refusal(error: stripe.StripeError, what: str) -> str:
    """What Stripe refused, and what to do. Its text is quoted only where it is about the parameters: others can hold
    parts of a key.
    """
    status, message = error.http_status, error.user_message or ""
    needed = re.search(r"'rak_(\w+)'", message)
    permission = f"the permission {needed[1]}" if needed else "the permission for this"
    reason = _REMEDIES[status].format(permission=permission) if status in _REMEDIES else message
    return f"Stripe refused with HTTP {status} for {what}: {reason}"


@contextmanager
def explained(what: str, doubt: str, otherwise: type[Exception] = InDoubtError) -> Iterator[None]:
    """Turns the SDK's errors into sentences about `what`.

    RefusedError where Stripe clearly refused; `otherwise`, with `doubt`, where it may have done what was asked.
    """
    try:
        yield
    except stripe.StripeError as error:
        if error.http_status in (400, 401, 402, 403, 404, 429):
            raise RefusedError(refusal(error, what)) from None
        if error.http_status is None:
            raise otherwise(f"no answer from Stripe ({type(error).__name__}): {doubt}") from None
        raise otherwise(f"Stripe failed (HTTP {error.http_status}): {doubt}") from None
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise otherwise(f"no usable answer from Stripe ({type(error).__name__}): {doubt}") from None
