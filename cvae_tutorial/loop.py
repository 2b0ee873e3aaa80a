"""The compiled loop that runs any sampler: blocks of rows, steps, what is kept, progress."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import OrderedDict
from contextlib import suppress
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from . import model as models
from .evidence import Evidence
from .samplers.base import AT_ONCE, Plan, Population, Sampler, Target, Weighted, resample, select, shaped_like, take
from .seeds import RowSeed

MAX_STEPS = 400  # of a method that goes on until it is ready
STEPS = 5  # of these, between two looks at the clock
PIECE = 2**23  # floats: independent chains are cut into pieces of this size, whatever the memory
_FEWEST, _AS_POPULATIONS = 32, 8  # rows of a block of a part of a table: at the least, and of coupled members
SEGMENT = 1e10  # floats: longer parts go through the compiled loop in segments


class Result(NamedTuple):
    """What a run returns, row by row; see `ConditionalDraws`."""

    draws: np.ndarray
    acceptance: np.ndarray
    chains: np.ndarray | None
    log_weights: np.ndarray | None
    encoder_calls: int
    decoder_calls: int
    arrived: np.ndarray


def run(
    model,
    sampler: Sampler,
    num_samples: int,
    evidence: Evidence,
    rows: np.ndarray,
    numbers: np.ndarray,
    seed: int,
    start: np.ndarray | None = None,
    progress: bool = True,
    max_memory: float = 1.0,
    is_part: bool = False,
) -> Result:
    """Draw ``num_samples`` completions of each of ``rows``.

    Parameters
    ----------
    model : LatentVariableModel
    sampler : Sampler
    num_samples : int
        Draws per row, s.
    evidence : Evidence
        Of the whole table.
    rows, numbers : arrays of int (r,)
        The rows to complete, and the numbers that their draws follow from, increasing.
    seed : int
    start : array (1 or r, C * num_encoders, d), optional
        Completed rows to start from.
    progress : bool
        Show a bar when the run takes longer than two seconds.
    max_memory : float
        GiB that the tensors of one block of rows may take.
    is_part : bool
        Whether ``rows`` are a part of a table, cut anywhere: then no block is small, or of another shape.

    Raises
    ------
    ValueError
        If one row does not fit into ``max_memory``.
    """
    filled, plan = sampler.plan(num_samples, model.latent_dim)
    values = np.clip(np.nan_to_num(evidence.values[rows]), -1e38, 1e38).astype(np.float32)[:, None]
    known = evidence.observed[rows][:, None].astype(np.int32)
    floats = filled.memory(Target(model, values, known), plan)
    piece = plan.num_chains
    if not sampler.coupled and piece * floats > PIECE:
        piece = max(1, int(PIECE / floats))
        piece -= piece % AT_ONCE if piece > AT_ONCE else 0
    # A processor computes many numbers at once and the last few of a tensor one by one, which rounds
    # otherwise, and it multiplies small matrices in another order. Rows are cut where that makes no difference,
    # and draws decoded in sixteens; blocks of a part of a table are filled up with copies of their last row.
    together = math.gcd(piece, plan.num_chains) * math.gcd(plan.num_encoders, plan.num_encoders + plan.num_prior)
    unit = AT_ONCE // math.gcd(AT_ONCE, together)
    unit = unit if is_part else min(unit, len(rows))
    needed = 4 * unit * piece * floats / 2**30
    if needed > max_memory:
        raise ValueError(
            f"{unit} {'row takes' if unit == 1 else 'rows take'} about {needed:.2g} GiB, max_memory allows "
            f"{max_memory:.2g}: raise max_memory to {math.ceil(needed * 100) / 100:g}"
            + (", or lower num_chains" if sampler.coupled else "")
        )
    most = unit * int(max_memory / needed)
    if sampler.coupled and is_part:  # its rounding hangs on the number of populations, whatever their size
        most = min(_AS_POPULATIONS, most)
    blocks = cut(len(rows), most)
    least = most if sampler.coupled else min(_FEWEST, most)
    pieces = [plan._replace(num_chains=n) for n in sizes(plan.num_chains, piece)]
    # A long run goes through the compiled loop in segments, so that it can show its progress.
    work = blocks[0].stop * piece * plan.num_steps * floats
    segments = sizes(plan.num_kept, -(-plan.num_kept // int(np.clip(work / SEGMENT, 1, 20))))
    bar = Progress(len(blocks) * len(pieces) * len(segments), progress)
    functions = compiled(model, filled.kernel())
    pair = np.random.SeedSequence(seed).generate_state(2).astype(np.int32)
    parts = []
    for block in blocks:
        size = block.stop - block.start
        filled_up = max(size + -size % unit, least) if is_part else size
        take = np.minimum(np.arange(block.start, block.start + filled_up), block.stop - 1)
        table = (tf.constant(values[take]), tf.constant(known[take]), tf.constant(numbers[take], "int32"))
        own, kept, first = None if start is None else start[take if len(start) > 1 else slice(1)], [], 0
        for number, part in enumerate(pieces):
            begin, last = None, first + part.num_chains * part.num_encoders
            if own is not None:
                begin = tf.constant(np.repeat(own[:, first:last], filled_up // len(own), 0), "float32")
            kept.append(functions.chains(table, (pair, number), part, begin, segments, bar))
            first = last
        part = functions.finish(table, (pair, len(pieces)), kept, num_samples)
        spent = part[-1] * size // filled_up  # copies are not counted
        parts.append((*(None if a is None else a[:size] for a in part[:-1]), spent))
    bar.end()
    draws, acceptance, chains, log_weights, arrived, calls = zip(*parts, strict=True)
    encoder_calls, decoder_calls = np.sum(calls, axis=0).astype(int).tolist()
    return Result(
        np.concatenate(draws),
        np.concatenate(acceptance),
        None if chains[0] is None else np.concatenate(chains),
        None if log_weights[0] is None else np.concatenate(log_weights),
        encoder_calls,
        decoder_calls,
        np.concatenate(arrived),
    )


def sizes(total: int, most: int) -> list[int]:
    """``total`` in parts of ``most`` and a rest."""
    return [most] * (total // most) + [total % most] * (total % most > 0)


def cut(num_rows: int, most: int) -> list[slice]:
    """Cut rows into blocks of at most so many."""
    return [slice(first, min(first + most, num_rows)) for first in range(0, num_rows, most)]


class Progress:
    """A bar, once a run has taken longer than two seconds."""

    def __init__(self, target, wanted):
        self.target, self.wanted, self.began = target, wanted, time.perf_counter()
        self.bar, self.done, self.rounds = None, 0, 0

    def round(self):
        """Note some steps more of a part that goes on until it is ready."""
        self.rounds += 1
        self.show()

    def part(self):
        """Note that a part is done."""
        self.done += 1
        if self.done < self.target:
            self.show()

    def show(self):
        """Draw the bar if it is time."""
        if self.wanted and self.bar is None and time.perf_counter() - self.began > 2.0:
            # Of one part that goes on until it is ready, nobody knows how long it takes.
            alone = self.target == 1
            self.bar = keras.utils.Progbar(None if alone else self.target, unit_name="round" if alone else "part")
        if self.bar is not None:
            self.bar.update(self.rounds if self.bar.target is None else self.done)

    def end(self):
        """Draw it a last time."""
        if self.bar is not None:
            self.bar.update(self.rounds if self.bar.target is None else self.target, finalize=True)


cache: OrderedDict = OrderedDict()
lock = threading.RLock()


def compiled(model, kernel) -> Compiled:
    """Return the compiled functions of a model and a sampler; 24 such pairs are kept, while their models live."""
    with lock:
        key = (id(model), kernel)
        if key not in cache:
            if all(of != id(model) for of, _ in cache):
                with suppress(TypeError):  # of an object that knows no weak references
                    weakref.finalize(model, forget, id(model))
            cache[key] = Compiled(model, kernel)
        cache.move_to_end(key)
        if len(cache) > 24:  # each holds tens of megabytes
            cache.popitem(last=False)
        return cache[key]


def forget(number):
    """Drop what was compiled for the model with this id."""
    with lock:
        for key in [key for key in cache if key[0] == number]:
            del cache[key]


class Compiled:
    """A sampler's functions, each traced once: rows, chains, steps and draws are free."""

    def __init__(self, model, kernel: Sampler):
        self.kernel = kernel
        self.model: Any
        try:
            self.model = weakref.ref(model)  # so that a model goes when its owner lets it
        except TypeError:
            self.model = lambda: model
        self.settles = type(kernel).ready is not Sampler.ready
        spec, d = tf.TensorSpec, models.num_features(model)
        table = (spec((None, 1, d), tf.float32), spec((None, 1, d), tf.int32), spec((None,), tf.int32))
        number = spec((), tf.int32)
        seed = (spec((2,), tf.int32), number)  # of the call, and the number of the piece
        plan = Plan(*[number] * len(Plan._fields))
        z, log_weight = spec((None, None, model.latent_dim), tf.float32), spec((None, None), tf.float32)
        self.signatures = {
            "init": (table, seed, plan),
            "init_at": (table, seed, plan, spec((None, None, d), tf.float32)),
            "pool": (table, seed, z, log_weight, number),
            "complete": (table, seed, z),
        }
        self.functions: dict[str, Any] = {}

    def call(self, name, *arguments):
        """Run the function ``_name``, compiled at its first call."""
        with lock:
            if name not in self.functions:
                if name == "advance":  # what it carries is known once a state has been made
                    first = self.functions["init" if "init" in self.functions else "init_at"].get_concrete_function()
                    state = tf.nest.map_structure(tf.TensorSpec.from_tensor, first.structured_outputs)
                    table, seed, plan = self.signatures["init"]
                    signature = (table, seed, state, *plan[:4], plan[0])
                else:
                    signature = self.signatures[name]
                function = tf.function(getattr(self, "_" + name), signature, autograph=False)
                # One graph for each sampler is meant; TensorFlow counts those of all samplers as one function.
                function._omit_frequent_tracing_warning = True
                self.functions[name] = function
        return self.functions[name](*arguments)

    # What is compiled

    def _init(self, table, seed, plan):
        return self._init_at(table, seed, plan, None)

    def _init_at(self, table, seed, plan, start):
        target, seed = self._given(table, seed)
        state = self.kernel.init(target, plan, seed, start)
        if self.kernel.keeps not in getattr(state, "_fields", ()):
            raise TypeError(
                f"{type(self.kernel).__name__}.init returns a state without {self.kernel.keeps!r}: "
                "a sampler of its kind returns a NamedTuple that has it"
            )
        return state

    def _advance(self, table, seed, state, phase, first, num_kept, thin, settling):
        """``num_kept`` times: take ``thin`` steps and keep what the method has to show."""
        target, seed = self._given(table, seed)
        kernel, seed = self.kernel, seed.fold_in(phase)

        def one_step(step, state, acceptance, calls):
            new, info = kernel.step(target, state, seed.fold_in(step))
            if self.settles:  # a row that is ready waits for the others
                new = select((settling > 0) & kernel.ready(state), state, new)
            acceptance = tf.ensure_shape(acceptance + info.acceptance, acceptance.shape)
            sent = tf.cast(tf.stack([info.encoder_calls, info.decoder_calls]), tf.int64)
            return step + 1, shaped_like(new, state), acceptance, calls + sent

        def keep_one(k, step, state, acceptance, calls, kept):
            last = step + thin

            def goes_on(step, state, *_):
                done = (settling > 0) & tf.reduce_all(kernel.ready(state)) if self.settles else False
                return (step < last) & tf.logical_not(done)

            _, state, acceptance, calls = tf.while_loop(goes_on, one_step, (step, state, acceptance, calls))
            shown = tf.nest.flatten(getattr(state, kernel.keeps))
            kept = [array.write(k, value) for array, value in zip(kept, shown, strict=True)]
            return k + 1, last, state, acceptance, calls, kept

        shown = getattr(state, kernel.keeps)
        kept = [tf.TensorArray(a.dtype, num_kept, element_shape=a.shape) for a in tf.nest.flatten(shown)]
        acceptance = tf.zeros(tf.shape(tf.nest.flatten(shown)[0])[:2])
        _, _, state, acceptance, calls, kept = tf.while_loop(
            lambda k, *_: k < num_kept, keep_one, (0, first, state, acceptance, tf.zeros(2, tf.int64), kept)
        )
        kept = tf.nest.pack_sequence_as(shown, [array.stack() for array in kept])
        # Numbers instead of booleans, which oneDNN complains of on some processors.
        stage = tf.cast(kernel.ready(state), tf.int32) + tf.cast(kernel.settled(state), tf.int32)
        return state, kept, acceptance, calls, stage

    def _pool(self, table, seed, z, log_weight, num_samples):
        """Resample once from everything, decode once."""
        of_index, of_x = self._given(table, seed)[1].split()
        # In the order of the widest latent, systematic resampling takes from every part of it what is its due.
        weight = tf.expand_dims(tf.nn.softmax(log_weight), -1)
        centre = tf.reduce_sum(weight * z, 1, keepdims=True)
        widest = tf.argmax(tf.reduce_sum(weight * tf.square(z - centre), 1), -1)
        order = tf.argsort(tf.gather(z, widest, axis=2, batch_dims=1), axis=-1)
        z, log_weight = take((z, log_weight), order)
        return self._complete(table, of_x, take(z, resample(log_weight, num_samples, of_index, systematic=True)))

    def _complete(self, table, seed, z):
        """Complete the row from each latent."""
        target, seed = self._given(table, seed)
        return target.impute(target.decode(z), seed)

    def _given(self, table, seed):
        if not isinstance(seed, RowSeed):
            pair, piece = seed
            seed = RowSeed.of_rows(tf.random.fold_in(pair, piece), table[2])
        return Target(self.model(), *table[:2]), seed

    # What runs it

    def chains(self, table, seed, plan, start, segments, bar):
        """Kept states (t, n, C, ...) of one piece, its acceptance (n, C), calls (2,) and arrivals (n,)."""
        given = () if start is None else (start,)
        state = self.call("init_at" if given else "init", table, seed, plan, *given)
        spent = np.zeros(2)

        def advance(phase, first, num_kept, thin, settling=0):
            nonlocal state, spent
            state, kept, acceptance, calls, stage = self.call(
                "advance", table, seed, state, phase, first, num_kept, thin, settling
            )
            spent = spent + len(table[2]) * calls.numpy()
            return kept, acceptance, np.broadcast_to(stage, len(table[2]))

        stage = np.full(len(table[2]), 0 if self.settles else 2)
        for step in range(0, MAX_STEPS * self.settles, STEPS):
            _, _, stage = advance(1, step, 1, STEPS, 1)
            bar.round()
            if stage.all():
                break
        if plan.warmup:
            advance(2, 0, 1, plan.warmup)
        kept, accepted, step = [], 0.0, plan.warmup
        for size in segments:
            shown, acceptance, _ = advance(2, step, size, plan.thin)
            step += size * plan.thin
            kept.append(tf.nest.map_structure(lambda a: a.numpy(), shown))
            accepted = accepted + acceptance.numpy()
            bar.part()
        kept = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *kept)
        return kept, accepted / (plan.num_kept * plan.thin), spent, stage == 2

    def finish(self, table, seed, pieces, num_samples):
        """Draws (n, s, d) of a block, acceptance (n,), kept chains, log weights, arrivals (n,), calls (2,)."""
        kept, accepted, spent, arrived = zip(*pieces, strict=True)
        kept = tf.nest.map_structure(lambda *parts: np.concatenate(parts, axis=2), *kept)
        acceptance = np.concatenate(accepted, axis=1).mean(axis=1)
        z = chains = log_weights = None
        num_decoded = -(-num_samples // AT_ONCE) * AT_ONCE
        if isinstance(self.kernel, Weighted | Population):
            # Pool steps, chains and particles: (t, n, C, P, ...) to (n, t C P, ...)
            z, log_weights = (np.moveaxis(a, 1, 0) for a in kept)
            z, log_weights = z.reshape(len(z), -1, z.shape[-1]), log_weights.reshape(len(z), -1)
            draws = self.call("pool", table, seed, z, log_weights, num_decoded).numpy()[:, :num_samples]
        else:
            chains = np.moveaxis(kept, 0, 2)  # (n, C, t, ...)
            # Every chain gives the same number of draws, as far apart as it can.
            count, states = chains.shape[1:3]
            each = math.ceil(num_samples / count)
            late = np.arange(1, each + 1) * states // each - 1
            flat = np.swapaxes(chains[:, :, late], 1, 2).reshape(len(chains), each * count, -1)
            pick = np.linspace(0, each * count, num_samples, endpoint=False).astype(int)
            draws, num_decoded = flat[:, pick], 0
        if z is not None and isinstance(self.kernel, Population):
            # The members are completed, too: how far populations differ is judged by the columns.
            shape = len(z), len(kept.z), self.kernel.num_populations, -1, draws.shape[-1]
            chains = self.call("complete", table, (seed[0], seed[1] + 1), z).numpy().reshape(shape)
            chains = np.swapaxes(chains, 1, 2).reshape(len(z), shape[2], -1, shape[-1])
            num_decoded += z.shape[1]
        calls = np.sum(spent, axis=0) + [0, len(table[2]) * num_decoded]
        return draws, acceptance, chains, log_weights, np.all(arrived, axis=0), calls
