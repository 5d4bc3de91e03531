"""What is reported to Stripe: planned and recorded (report), sent (reporter), confirmed (confirm), repaired
(reconcile), certified (certify), and shown to finance (statements).

Stripe itself comes in as a parameter: the protocols `Meter` (meter) and `Products` (catalog).
"""
