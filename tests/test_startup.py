"""What an import says and costs: silence, unless something is wrong; Keras on TensorFlow, or an error that says so.

A stand-in for TensorFlow plays what the real one does too rarely, and too slowly, to wait for.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOGGED = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795656209.078838    7368 port.cc:153] oneDNN custom operations are on.
2025-01-31 01:23:29.078838: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
W0000 00:00:1795656209.079310    7368 gpu_device.cc:2344] Cannot dlopen some GPU libraries.
Skipping registering GPU devices...
E0000 00:00:1795656222.983078    7368 cuda_platform.cc:52] failed call to cuInit
I0000 00:00:1795656209.436061    7368 cpu_feature_guard.cc:227] This TensorFlow binary is optimized.
To enable the following instructions: AVX2 FMA, rebuild TensorFlow with the appropriate compiler flags.
"""
FATAL = "F0000 00:00:1795656222.983078    7368 cpu_feature_guard.cc:17] compiled to use AVX instructions\n"
SAID = "UserWarning: said by another thread\n"


@pytest.fixture
def start(tmp_path):
    """Run the start-up with stand-ins for Keras and TensorFlow: start(what TensorFlow does, environment, shell)."""
    for name, text in {
        "keras.py": "import os\nfrom types import SimpleNamespace\n"
        "config = SimpleNamespace(backend=lambda: os.environ.get('RUNS_ON', 'tensorflow'))\n",
        "tensorflow.py": "import os\nfrom contextlib import suppress\nfrom types import SimpleNamespace\n"
        f"with suppress(OSError):\n    os.write(2, {(LOGGED + SAID + FATAL).encode()!r})\n"
        "config = SimpleNamespace(list_physical_devices=lambda: exec(os.environ['DOES']))\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tmp").mkdir()

    def run(does="", environment=(), shell='exec "$@"', first="", last="os.write(1, b'ready')"):
        code = f"{first}\nimport runpy, os; runpy.run_path(os.environ['START']); {last}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "KERAS_"))}
        done = subprocess.run(
            ["sh", "-c", shell, "sh", sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env={
                **clean,
                "PYTHONPATH": str(tmp_path),
                "HOME": str(tmp_path),
                "TMPDIR": str(tmp_path / "tmp"),
                "START": str(ROOT / "cvae_tutorial/_quiet.py"),
                "DOES": does,
                **dict(environment),
            },
        )
        assert not list((tmp_path / "tmp").iterdir())
        return done

    return run


@pytest.mark.parametrize("level", [None, "1", "2", "3"])
def test_log_lines_are_dropped_and_nothing_else(start, level):
    done = start(environment={} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level})
    assert (done.stdout, done.stderr) == ("ready", SAID + FATAL)


@pytest.mark.parametrize("first", ["os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'", "os.environ['PATH'] = '/no/shell'"])
def test_everything_is_shown(start, first):
    done = start(first=f"import os; {first}")
    assert (done.stdout, done.stderr) == ("ready", LOGGED + SAID + FATAL)


@pytest.mark.parametrize(
    "does", ["os.abort()", "os._exit(3)", "os.kill(os.getpid(), 9)", "raise RuntimeError('no device')"]
)
def test_what_was_said_before_the_end_is_shown(start, does):
    done = start(does)
    assert done.returncode and done.stderr.startswith(LOGGED + SAID + FATAL)
    assert ("no device" in done.stderr) == ("device" in does)


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-", "<&-", ">&-", "<&- >&-"])
def test_standard_streams_may_be_closed(start, closed):
    """Whatever takes the free numbers: the end of the import finds them as they were."""
    is_open = "map(os.path.exists, ('/dev/fd/0', '/dev/fd/1', '/dev/fd/2'))"
    done = start(shell=f'exec "$@" {closed}', last=f"os._exit(40 + sum({is_open}))")
    assert done.returncode == 43 - closed.count("&-")


def test_standard_error_that_is_no_file(start):
    """As in notebooks, in pythonw, and under a test runner."""
    assert start(first="import sys; sys.stderr = None").stderr == SAID + FATAL
    assert start(first="import io, sys; sys.stderr = io.StringIO()").stderr == SAID + FATAL


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "openvino", "nonsense"])
def test_another_backend_is_refused(start, tmp_path, backend):
    (tmp_path / ".keras").mkdir()
    (tmp_path / "other").mkdir()
    config = f'{{"backend": "{backend}"}}'
    by_variable = start(environment={"KERAS_BACKEND": backend})
    (tmp_path / ".keras/keras.json").write_text(config)
    by_file = start()
    (tmp_path / "other/keras.json").write_text('{"backend": "tensorflow"}')
    by_hand = start(first="import keras", environment={"RUNS_ON": backend, "KERAS_BACKEND": "tensorflow"})
    for done in (by_variable, by_file, by_hand):
        assert done.returncode == 1 and "Traceback" in done.stderr
        said = done.stderr.splitlines()[-1]
        assert said.startswith("ImportError: ") and backend in said
        assert "KERAS_BACKEND=tensorflow" in said and "before keras is imported" in said
    for environment in ({"KERAS_HOME": str(tmp_path / "other")}, {"KERAS_BACKEND": "tensorflow"}):
        assert start(environment=environment).stdout == "ready"


def run_real(code, redirect="", **environment):
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


def test_the_real_import_is_silent():
    done = run_real("import cvae_tutorial as ct; ct.two_ridges()", TF_CPP_MIN_LOG_LEVEL="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_real_import_costs_what_keras_costs():
    """And works with standard error closed."""
    done = run_real(
        "import time; import keras; of_keras = time.process_time()\n"
        "import cvae_tutorial; print(time.process_time() / of_keras)",
        "2>&-",
    )
    assert done.returncode == 0 and float(done.stdout) <= 1.1


def test_the_real_fatal_message_is_shown():
    done = run_real("import cvae_tutorial", TF_XLA_FLAGS="--no_such_flag")
    assert done.returncode and "Unknown flag in TF_XLA_FLAGS: --no_such_flag" in done.stderr
