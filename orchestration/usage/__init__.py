"""The words and the arithmetic of usage: events, periods, units, pricing, formatting. No I/O, no clock."""
