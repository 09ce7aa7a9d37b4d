"""Training: a loop on Lightning Fabric with our convolutions, recipes for it, many processes."""
