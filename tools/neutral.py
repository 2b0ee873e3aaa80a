"""Import this first: every command then finds the same surroundings, whoever runs it, and wherever.

Settings under HOME (a matplotlibrc, keras.json, an IPython profile, a kernel of one's own) and variables of
the shell would reach into the figures. A folder of the build stands in for HOME.
"""

import os
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
HOME = TOOLS.parent / "_build/home"

# By these, `make calm` holds the arithmetic down to another processor's.
PROCESSOR = (
    "GLIBC_TUNABLES",
    "NPY_DISABLE_CPU_FEATURES",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "TF_NUM_INTRAOP_THREADS",
)

# A kernel draws into its notebook unless told another backend, and the package keeps TensorFlow's start-up
# notices away unless told a log level.
for variable in ("MPLBACKEND", "MATPLOTLIBRC", "TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND", "PYTHONWARNINGS"):
    os.environ.pop(variable, None)
for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "KERAS_HOME", "MPLCONFIGDIR"):
    os.environ[variable] = str(HOME / variable.lower())
os.environ["PYTHONSTARTUP"] = str(TOOLS / "startup.py")

# On import, jsonschema would spend 2 s on a grammar of international addresses, of which a notebook holds none.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# Once for all: the list of fonts takes seconds, and Matplotlib would say so in the first chapter's page.
import matplotlib.font_manager  # noqa: E402, F401
