"""Pages over HTTP: what CS, sales, finance and customers open in a browser, and the JSON that machines ask for.

A page is a module with one function, from `Asked` to `Page` (asking.py), and a template of the same name. It reads one
published copy and the ledger, and knows no HTTP: the same function is served (app.py) and written as a file
(export.py).
Figures are columns of marts. Nothing here computes one, and nothing here waits for a run.
"""
