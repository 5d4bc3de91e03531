from orchestration.usage.events import ACCOUNT_FIELDS, EVENT_NAMES, Rejection


def test_rejection_explains_itself_for_every_reason() -> None:
    explanations = {reason: reason.explanation for reason in Rejection}

    assert len(set(explanations.values())) == len(Rejection)
    assert all(name in explanations[Rejection.UNKNOWN_EVENT] for name in EVENT_NAMES)
    assert all(name in explanations[Rejection.MISSING_ACCOUNT] for name in ACCOUNT_FIELDS)
