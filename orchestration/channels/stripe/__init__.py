"""Stripe: the only importer of its SDK. Importing this package costs nothing; the SDK takes half a second.

What `defs/` and `cli/` hand to billing is here: how it reaches the meter, subscriptions and invoices, and products and
prices.
"""

from typing import TYPE_CHECKING

from orchestration.settings import Settings

if TYPE_CHECKING:
    from orchestration.channels.stripe.check import StripeProducts
    from orchestration.channels.stripe.credits import StripeCredits
    from orchestration.channels.stripe.invoices import StripeInvoices
    from orchestration.channels.stripe.meter import StripeMeter
    from orchestration.channels.stripe.rehearsal import StripeSandbox


def connect_meter(config: Settings) -> "StripeMeter":
    """Stripe's meter as the environment configures it.

    :raises StoppedError, ValueError: it cannot be used; the message says what to do.
    """
    from orchestration.channels.stripe import meter

    return meter.configured(config)


def connect_credits(config: Settings) -> "StripeCredits":
    """Stripe's prepaid credit. Nothing is asked yet.

    :raises ValueError: there is no key, or none that can be used; the message says what to do.
    """
    from orchestration.channels.stripe import credits as stripe_credits

    return stripe_credits.configured(config)


def connect_invoices(config: Settings) -> "StripeInvoices":
    """Stripe's subscriptions and invoices. Nothing is asked yet.

    :raises ValueError: there is no key, or none that can be used; the message says what to do.
    """
    from orchestration.channels.stripe import invoices

    return invoices.configured(config)


def connect_products(config: Settings) -> "StripeProducts":
    """Stripe's products and prices. Nothing is asked yet.

    :raises ValueError: there is no key, or none that can be used; the message says what to do.
    """
    from orchestration.channels.stripe import check

    return check.configured(config)


def connect_sandbox(config: Settings) -> "StripeSandbox":
    """Stripe's sandbox for a rehearsal. Nothing is asked yet.

    :raises ValueError: there is no key, or it is a live one; the message says what to do.
    """
    from orchestration.channels.stripe import rehearsal

    return rehearsal.configured(config)
