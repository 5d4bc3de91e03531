"""What is counted, by name. Which meters there are is data (dbt_project/seeds/meters.csv); this is the one of calls."""

METER = "api-calls"
"""The meter that is billed, as it is called here; at Stripe its event name is a setting."""
