"""Say clearly when this Python cannot run the book. Runs on any Python, even 2.7."""

import sys

OLDEST, NEWEST = (3, 11), (3, 13)
version = sys.version_info[:2]
if OLDEST <= version <= NEWEST:
    sys.exit(0)
sys.stderr.write(
    "This is Python %d.%d, and the book needs 3.11, 3.12 or 3.13 (TensorFlow has no build for %s ones).\n"
    "Install one of these, or name it: make book PYTHON=python3.12\n"
    % (version + ("older" if version < OLDEST else "newer",))
)
sys.exit(1)
