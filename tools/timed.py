"""Run a command and print what it took, its children included: `python tools/timed.py make --version`."""

import os
import subprocess
import sys
import time


def main() -> int:
    """Return the command's exit status."""
    start, process = time.monotonic(), subprocess.Popen(sys.argv[1:])
    while process.returncode is None:
        try:
            process.wait()
        except KeyboardInterrupt:  # the command has been interrupted too, and tidies up
            continue
    used = os.times()
    cpu, clock = used.children_user + used.children_system, time.monotonic() - start
    print(f"It took {cpu / 60:.2f} CPU minutes and {clock / 60:.2f} of the clock", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
