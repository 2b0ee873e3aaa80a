"""Import TensorFlow without the lines that its C++ libraries write to the terminal.

They say which processor features were found, at every start, and no Python setting reaches them.
Set TF_CPP_MIN_LOG_LEVEL to see them.
"""

import os

if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    _stderr, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(_nowhere, 2)
    try:
        import tensorflow

        tensorflow.config.list_physical_devices()  # looks for a GPU, and complains where none is
    finally:
        os.dup2(_stderr, 2)
        os.close(_stderr)
        os.close(_nowhere)
