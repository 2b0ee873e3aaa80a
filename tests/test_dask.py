"""Tables of Dask: whatever the parts and wherever they are drawn, the bits are those of the table in memory."""

import json
import os
import socket
import subprocess
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from dask.distributed import Client, LocalCluster

import cvae_tutorial as ct
import cvae_tutorial.tables.dask as lazy


def mixed(num_rows=160, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 2)) @ [[1.0, 0.5, -1.0], [0.0, 1.0, 1.0]] + 0.3 * rng.normal(size=(num_rows, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["whole"] = pd.Series(np.rint(3 * frame["a"])).astype("Int64")
    frame["kind"] = np.where(frame["b"] > 0, "up", "down")
    return frame.mask(rng.random(frame.shape) < 0.3)


@pytest.fixture(scope="module")
def imputer():
    settings = {"max_iter": 100, "hidden": (16,), "num_draws": 16, "random_state": 0}
    return ct.VAEImputer(**settings).set_output(transform="pandas").fit(mixed())


@pytest.fixture(scope="module")
def in_memory(imputer):
    return imputer.transform(mixed()), imputer.sample_imputations(mixed(), 2)


def same(made, wanted):
    for one, other in zip(made, wanted, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("num_parts", [1, 2, 5, 13])
def test_parts_make_no_difference(imputer, in_memory, num_parts):
    table = dd.from_pandas(mixed(), npartitions=num_parts)
    filled = imputer.transform(table)
    assert filled.npartitions == table.npartitions and filled.divisions == table.divisions
    assert filled._meta.dtypes.equals(in_memory[0].dtypes) and len(filled._meta) == 0
    same([filled.compute()], in_memory[:1])
    same(dask.compute(*imputer.sample_imputations(table, 2)), in_memory[1])


def test_the_comparison_notices_rows_that_go_by_their_place_in_the_part(imputer, in_memory, monkeypatch):
    monkeypatch.setattr(lazy, "_first_numbers", lambda table: [0] * table.npartitions)
    table = dd.from_pandas(mixed(), npartitions=2)
    with pytest.raises(AssertionError, match="are different"):
        same([imputer.transform(table).compute()], in_memory[:1])


def parts_of(frame, ends):
    """Parts that end at these rows, of which Dask knows nothing else."""
    cut = [frame.iloc[a:b] for a, b in zip([0, *ends], [*ends, len(frame)], strict=True)]
    return dd.from_delayed([dask.delayed(part) for part in cut], meta=frame.iloc[:0])


def test_labels_count_where_they_differ_else_places(imputer, in_memory):
    frame, filled = mixed(), in_memory[0].copy()
    for labels in (range(160), [f"row {i}" for i in range(160)], [*range(80)] * 2, [7] * 160):
        frame.index = filled.index = pd.Index(labels)
        wanted = imputer.transform(frame)
        pd.testing.assert_frame_equal(wanted, filled, check_exact=True)
        same([imputer.transform(parts_of(frame, [80, 80, 100])).compute()], [wanted])
    frame.index = pd.Index(np.random.default_rng(0).permutation(1000)[:160])  # interleaved: who knows what is twice
    with pytest.raises(ValueError, match="may share row labels: sort it by its index"):
        imputer.transform(parts_of(frame, [80]))
    sorted_again = parts_of(frame, [80]).set_index(parts_of(frame, [80]).index, npartitions=2)
    made = imputer.transform(sorted_again).compute()
    pd.testing.assert_frame_equal(made, imputer.transform(frame.sort_index()), check_exact=True, check_names=False)
    twice = dd.from_pandas(mixed().set_axis([*range(159), 158], axis=0), npartitions=2)
    with pytest.raises(ValueError, match="two rows have the label 158: after ddf.clear_divisions"):
        imputer.transform(twice).compute()


def test_arrays_come_back_as_arrays():
    frame = mixed()[["a", "b"]].astype("float32")
    imputer = ct.VAEImputer(max_iter=20, hidden=(8,), strategy="sample", random_state=0).fit(frame)
    made = imputer.transform(dd.from_pandas(frame, npartitions=3))
    assert isinstance(made, da.Array) and made.dtype == np.float32
    np.testing.assert_array_equal(made.compute(), imputer.transform(frame))


@pytest.mark.parametrize("num_parts", [1, 3])
def test_conditionals_follow_from_the_place_of_the_row(num_parts):
    vae, rows = ct.load_vae("two_ridges"), ct.two_ridges().sample(90, seed=0)
    rows[::2, 1] = np.nan
    wanted = ct.sample_conditional(vae, rows, 20, seed=3, row_numbers=np.arange(90), progress=False).values
    frame = dd.from_pandas(pd.DataFrame(rows), npartitions=num_parts)
    for table in (frame, da.from_array(rows, chunks=(-(-90 // num_parts), 1))):
        made = ct.sample_conditional(vae, table, 20, seed=3)
        assert made.shape == (90, 20, 2)
        np.testing.assert_array_equal(made.compute(), wanted)
    with pytest.raises(TypeError, match="mask goes with a table in memory"):
        ct.sample_conditional(vae, frame, 20, mask=np.isfinite(rows))


def test_what_cannot_be_says_so(imputer):
    table = dd.from_pandas(mixed(), npartitions=2)
    with pytest.raises(TypeError, match="no table in memory: call its collect.. or compute.. first, on a sample"):
        ct.VAEImputer().fit(table)
    with pytest.raises(ValueError, match="feature names"):
        imputer.transform(table[["b", "a", "c", "whole", "kind"]])
    with pytest.raises(ValueError, match="'whole' of a part comes back as float64"):
        imputer.transform(table.assign(whole=table["a"].astype(object))).compute()
    with pytest.raises(TypeError, match="a Dask DataFrame is needed, got Array"):
        imputer.transform(da.zeros((4, 5)))


def test_without_dask_nothing_is_imported_and_the_extra_is_named():
    code = """
import sys
import cvae_tutorial as ct
assert not [name for name in sys.modules if name.split(".")[0] in ("dask", "distributed")]
sys.modules["dask.dataframe"] = None
import dask.array as da
try:
    ct.sample_conditional(ct.load_vae("two_ridges"), da.zeros((3, 2)))
except ImportError as error:
    assert "pip install 'cvae_tutorial[dask]'" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_two_worker_processes_give_the_same_bits(imputer, in_memory):
    table = dd.from_pandas(mixed(), npartitions=4)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster) as client:
        same(client.gather(client.compute([imputer.transform(table)])), in_memory[:1])
        vae, rows = ct.load_vae("two_ridges"), np.full((40, 2), [1.0, np.nan])
        made = ct.sample_conditional(vae, da.from_array(rows, chunks=(10, 2)), 20, seed=3).compute()
    wanted = ct.sample_conditional(vae, rows, 20, seed=3, row_numbers=np.arange(40), progress=False).values
    np.testing.assert_array_equal(made, wanted)


def test_one_worker_alone_trains_as_ever():
    """Where there are no other workers, logs stay numbers."""
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        vae = ct.VAE(2, 2, hidden=(8,), seed=0)
        vae.compile(keras.optimizers.Adam(1e-3))
    rows = ct.two_ridges().sample(64, seed=0)
    history = vae.fit(rows, epochs=1, batch_size=32, validation_data=rows, verbose=0).history
    assert all(isinstance(value, float) for values in history.values() for value in values)


WORKER = """
import json, os, sys
index, *ports = sys.argv[1:]
cluster = {"worker": ["127.0.0.1:" + port for port in ports]}
os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": int(index)}})
import cvae_tutorial as ct
import keras
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
rows = ct.two_ridges().sample(400, seed=0).astype("float32")
with strategy.scope():
    vae = ct.VAE(2, 2, hidden=(8,), seed=0)
    vae.compile(keras.optimizers.Adam(1e-3))
history = vae.fit(rows, epochs=2, batch_size=100, validation_data=rows[:100], verbose=0).history
print(json.dumps([strategy.num_replicas_in_sync, history, sum(float(abs(w).sum()) for w in vae.get_weights())]))
"""


@pytest.mark.slow
def test_two_tensorflow_workers_train_one_model():
    """By Keras's own fit, which fails with numbers as logs: see `VAE._for_workers`."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(index), *ports],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    said = [worker.communicate(timeout=200) for worker in workers]
    (count, history, weights), other = (json.loads(out.splitlines()[-1]) for out, _ in said)
    assert other == [count, history, weights] and count == 2
    assert np.isfinite(weights) and history["bound"][1] > history["bound"][0]
    assert set(history) >= {"bound", "kl", "val_bound", "val_kl"}
