"""Which keys are taken, and how the SDK's errors read."""

import pytest

from orchestration import settings
from orchestration.channels.stripe import client


def connected(monkeypatch: pytest.MonkeyPatch, key: str, env: str = "local") -> object:
    monkeypatch.setenv("STRIPE_API_KEY", key)
    monkeypatch.setenv("HEADROOM_ENV", env)
    return client.connect(settings.load())


def test_client_is_none_when_no_key_is_set() -> None:
    assert client.connect(settings.load()) is None


@pytest.mark.parametrize(
    ("key", "env"),
    [("sk_test_1", "local"), ("rk_test_1\n", "local"), ("sk_live_1", "production"), ("rk_live_1", "production")],
)
def test_key_of_stripe_is_taken(monkeypatch: pytest.MonkeyPatch, key: str, env: str) -> None:
    assert connected(monkeypatch, key, env) is not None


@pytest.mark.parametrize("key", ["pk_test_1", "whsec_1", "xoxb-1", "sk_test_two words"])
def test_other_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with pytest.raises(ValueError, match="STRIPE_API_KEY is not a secret key") as refusal:
        connected(monkeypatch, key)
    assert key not in str(refusal.value)


@pytest.mark.parametrize("key", ["sk_live_1", " rk_live_1"])
@pytest.mark.parametrize("env", ["local", "staging"])
def test_live_key_is_refused_outside_production(monkeypatch: pytest.MonkeyPatch, key: str, env: str) -> None:
    with pytest.raises(ValueError, match=f"is a live key and HEADROOM_ENV is '{env}'.*HEADROOM_ENV=production") as no:
        connected(monkeypatch, key, env)
    assert key not in str(no.value)
