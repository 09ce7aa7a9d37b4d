"""What is measured: shape lists, suites and the ledger of results. cvperf.bench measures it."""
