"""Effects out: one folder for each vendor, the only importer of its SDK. No channel knows another."""
