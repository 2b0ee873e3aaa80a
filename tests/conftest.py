"""What all tests share: no windows, and the same examples on every run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import neutral  # noqa: E402, F401

# isort: split
import matplotlib  # noqa: E402
from hypothesis import settings  # noqa: E402

# Not through MPLBACKEND, which the notebooks' kernels would inherit.
matplotlib.use("agg")

# No test may pass or fail by the time of day or by a busy machine.
settings.register_profile("book", derandomize=True, deadline=None)
settings.load_profile("book")
