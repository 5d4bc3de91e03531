"""PagerDuty: an incident for what is critical."""
