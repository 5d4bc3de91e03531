"""What is reported to Stripe, of each billed meter (meters): planned and recorded (report), what people approve of it
(approval), sent (reporter, doubt), confirmed (confirm), repaired (reconcile), read back from subscriptions and invoices
(read_invoices, invoicing, finality), certified (certify, verdict), and shown to finance (statements, problems).

Stripe itself comes in as a parameter: the protocols `Meter` (meter), `Invoices` (invoicing) and `Products` (catalog).
"""
