"""Who can run a call: the registry, and one file for each way to run it."""
