"""`headroom` in the shell: one module for each group of commands, and what only the shell needs.

Commands call and print; nothing is decided here.
"""
