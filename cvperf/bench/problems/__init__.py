"""One call of an op, in numbers (``Shape``) and on tensors (``Problem``); one file an op."""
