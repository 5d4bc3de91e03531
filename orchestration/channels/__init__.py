"""Ways out. Each module is the only importer of its vendor's SDK; none knows another."""
