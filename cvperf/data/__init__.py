"""Real data and weights. Ground floor: imports nothing else from cvperf."""
