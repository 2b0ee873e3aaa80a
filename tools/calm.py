"""Run tests and chapters as on other processors and new machines: nothing may pass only where it was made.

    python tools/calm.py                                       tests and book, everywhere
    python tools/calm.py --isa SSE41 --threads 1 tests/test_figures.py

Every instruction set that this processor has, with one thread and with two, each with a new, empty HOME.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

import neutral


def instruction_sets() -> dict[str, dict[str, str]]:
    """Name the instruction sets to run on, each with the variables that hold libraries down to it."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    wide = [feature for feature in found if "512" in feature or feature == "X86_V4"]
    if not any(feature in found for feature in ("AVX2", "X86_V3")):
        return {"as it is": {}}  # not x86, or an old one: threads alone can differ
    levels = [("SSE41", "Nehalem", found, "-AVX2,-FMA"), ("AVX2", "Haswell", wide, "-AVX512F")]
    levels += [("AVX512_CORE", "SkylakeX", [], "")] if wide else []
    return {
        onednn: {
            "ONEDNN_MAX_CPU_ISA": onednn,
            "OPENBLAS_CORETYPE": openblas,
            "NPY_DISABLE_CPU_FEATURES": " ".join(without),
            "GLIBC_TUNABLES": f"glibc.cpu.hwcaps={libm}",
        }
        for onednn, openblas, without, libm in levels
    }


def main() -> int:
    """Return 1 when anything failed anywhere."""
    sets = instruction_sets()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=sets, action="append", help="instruction sets; all that there are")
    parser.add_argument("--threads", type=int, action="append", help="numbers of threads; 1 and 2")
    parser.add_argument("--jobs", default="2", help="processes to run at a time")
    parser.add_argument("paths", nargs="*", default=["tests", "book"], help="what pytest is to run")
    options = parser.parse_args()
    results = []
    for isa in options.isa or sets:
        for threads in options.threads or (1, 2):
            print(f"\n{isa}, threads: {threads}, and a HOME that is new and empty", flush=True)
            start = time.monotonic()
            shutil.rmtree(neutral.HOME, ignore_errors=True)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
                kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
                counts = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(threads))
                status = subprocess.run(
                    [sys.executable, "-m", "pytest", "-q", "-n", options.jobs, "--dist", "loadscope", "--nbval"]
                    + ["--nbval-current-env", *options.paths],
                    env=kept | sets[isa] | counts | {"HOME": home, "USERPROFILE": home},
                ).returncode
            results.append((isa, threads, status, time.monotonic() - start))
    for isa, threads, status, seconds in results:
        print(f"  {isa:<12} threads {threads}   {'failed' if status else 'passed'} {seconds / 60:6.1f} min")
    return int(any(status for *_, status, _ in results))


if __name__ == "__main__":
    sys.exit(main())
