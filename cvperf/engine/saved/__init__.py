"""A captured graph as JSON and tensors, and back, in a process that has nothing of the model.

torch.export has a serialiser of its own (``torch._export.serde``). It is not used here: it takes
exported programs only, not graphs that passes have rewritten; it keeps constants by pickle; and it
reads sizes by ``sympy.sympify``, which evaluates the text as Python. What stands in a file of ours
is looked up in tables, never run.
"""

from cvperf.engine.saved.graphs import describe_captured, read_captured
from cvperf.engine.saved.weights import SavedWeights

__all__ = ["SavedWeights", "describe_captured", "read_captured"]
