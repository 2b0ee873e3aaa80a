"""Import Keras on TensorFlow: no other backend, and without the lines that TensorFlow logs at every start.

They name the processor's features and the GPU that is not there. Some are written while the C++ libraries
load, before TF_CPP_MIN_LOG_LEVEL is read, so no setting reaches them. Standard error goes to a file for that
time: log lines are dropped, and what else was written follows. All of it follows if the import fails or the
process dies in it. TF_CPP_MIN_LOG_LEVEL=0 shows everything as it comes.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress

# "I0000 00:00:1795656209.078838    7368 port.cc:153] ..." and, up to TensorFlow 2.19, "2025-01-31 01:23:29.078838:
# I tensorflow/...": levels I, W and E with the lines that belong to them. The fatal level, F, stays.
LOGGED = re.compile(
    rb"^(?:[IWE]\d{4} |[\d-]{10} [\d:.]+: [IWE] |WARNING: All log messages before absl::"
    rb"|To enable the following instructions|Skipping registering GPU devices).*\n?",
    re.M,
)

# Our end of its pipe closes without a word only if this process has died.
GUARD = 'read -r _ || { cat "$0" >&2; rm -f "$0"; }'


def hold_back_log(stack: ExitStack) -> None:
    """Send standard error to a file until ``stack`` closes. OSError where it is closed, or there is no shell."""
    stderr = os.dup(2)
    stack.callback(os.close, stderr)
    file = stack.enter_context(tempfile.NamedTemporaryFile())  # noqa: SIM115 (the stack closes it)
    guard = stack.enter_context(subprocess.Popen(["sh", "-c", GUARD, file.name], stdin=subprocess.PIPE))

    @stack.push
    def pass_on(kind: object, error: object, traceback: object) -> None:
        os.dup2(stderr, 2)
        guard.communicate(b"\n")
        file.seek(0)
        held = file.read()
        with suppress(OSError), open(2, "wb", closefd=False) as out:
            out.write(held if error else LOGGED.sub(b"", held))

    os.dup2(file.fileno(), 2)


def configured_backend() -> str:
    """Read the backend as Keras will: to import Keras and ask fails where another backend's library is missing."""
    if backend := os.environ.get("KERAS_BACKEND"):
        return backend
    home = os.path.expanduser(os.environ.get("KERAS_HOME", os.path.join("~", ".keras")))
    with suppress(OSError, ValueError), open(os.path.join(home, "keras.json")) as file:
        return json.load(file).get("backend", "tensorflow")
    return "tensorflow"


def require_tensorflow(backend: str) -> None:
    """Raise ImportError, with the remedy, for any other backend."""
    if backend != "tensorflow":
        raise ImportError(
            f"cvae_tutorial needs Keras on TensorFlow, and Keras is set to the backend {backend}: set the environment "
            'variable KERAS_BACKEND=tensorflow (or "backend" in keras.json) before keras is imported'
        )


if "keras" not in sys.modules:
    require_tensorflow(configured_backend())
with ExitStack() as _stack:
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0":
        with suppress(OSError):
            hold_back_log(_stack)
    import keras

    require_tensorflow(keras.config.backend())
    import tensorflow

    tensorflow.config.list_physical_devices()  # looks for a GPU, and complains where none is
