"""`sample_conditional`: the one compiled loop that runs any method, and the draws it returns."""

from __future__ import annotations

import math
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .evidence import Evidence, check_evidence, column_index, column_label
from .likelihoods import Bernoulli, Categorical, kind_of
from .samplers import METHODS
from .samplers.core import Observed, impute, resample, shaped_like, take

_MAX_RESULT_BYTES = 16 * 2**30
_MAX_STEPS = 400  # of a method that goes on until it is ready
_ROWS_CHECKED = 20  # diagnostics of these many rows decide on a warning; `summary` covers all


class SamplingWarning(UserWarning):
    """Chains that have not mixed, weights that have degenerated, a method that is biased here."""


@dataclass(frozen=True)
class ConditionalDraws:
    """Draws of p(x_m | x_o), with what is needed to judge them.

    Attributes
    ----------
    values : ndarray (s, d), or (n, s, d) for a table
        Complete rows in data units, categories as codes; observed columns as given, to the bit.
    evidence : Evidence
        What was observed.
    method : object
        The method and its settings.
    acceptance : ndarray (n,)
        Mean Metropolis acceptance probability; for pseudo-Gibbs what it would have been; NaN for
        methods without that test.
    encoder_calls, decoder_calls : int
        Rows sent through each network by the steps and the final decoding. What starts the chains
        is not counted.
    chains : ndarray (n, C, t, d) or None
        Kept states of the C chains (methods that run chains).
    log_weights : ndarray (n, m) or None
        Unnormalised log importance weights of the pool that was resampled (weighted methods).
    seconds : float
        Wall time.
    """

    values: np.ndarray
    evidence: Evidence
    method: Any
    acceptance: np.ndarray
    encoder_calls: int
    decoder_calls: int
    chains: np.ndarray | None
    log_weights: np.ndarray | None
    seconds: float
    likelihood: Any = field(repr=False)

    def __repr__(self):
        rows = "" if self.evidence.single else f"{len(self.evidence.values)} rows x "
        return (
            f"ConditionalDraws({rows}{self.values.shape[-2]} draws x {self.values.shape[-1]} columns, "
            f"{self.method}, {self.seconds:.2f} s)"
        )

    @property
    def _rows(self):
        return self.values[None] if self.evidence.single else self.values

    def column(self, column):
        """Draws of one column, by index or name: (s,) or (n, s). Categories stay codes."""
        return self.values[..., column_index(column, self.values.shape[-1], self.evidence.names)]

    def to_frame(self):
        """Draws as a pandas DataFrame in the user's units and category names, one line per draw.

        Index: ``draw``, or ``row`` and ``draw`` for a table.
        """
        import pandas as pd

        rows = self._rows
        n, s, d = rows.shape
        names = self.evidence.names or range(d)
        flat = rows.reshape(n * s, d)
        columns = {
            name: _decode_column(flat[:, j], kind_of(self.likelihood, j)) for j, name in enumerate(names)
        }
        index = pd.MultiIndex.from_product([range(n), range(s)], names=["row", "draw"])
        frame = pd.DataFrame(columns, index=index)
        return frame.droplevel("row") if self.evidence.single else frame

    @cached_property
    def importance_ess(self):
        """Effective size (sum w)² / sum w² of the weighted pool, per row (n,); NaN for chains."""
        if self.log_weights is None:
            return np.full(len(self._rows), np.nan)
        weights = np.exp(self.log_weights - self.log_weights.max(axis=1, keepdims=True), dtype=float)
        return weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)

    @cached_property
    def pareto_k(self):
        """Shape of the weights' tail, per row (n,): above 0.7 the weights have failed; NaN for chains.

        Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
        """
        return self._pareto_k(range(len(self._rows)))

    def _pareto_k(self, rows):
        out = np.full(len(rows), np.nan)
        if self.log_weights is not None:
            import arviz

            for i, row in enumerate(rows):
                log_weights = self.log_weights[row].astype(float)
                if np.ptp(log_weights) < 1e-6:  # equal weights have no tail
                    out[i] = -np.inf
                elif np.isfinite(log_weights).all():
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # the warning below says more
                        out[i] = float(arviz.psislw(log_weights.copy())[1])
        return out

    def _chain_statistic(self, name, rows):
        """``arviz.rhat`` or ``arviz.ess`` of every missing column: (len(rows), d), NaN elsewhere."""
        out = np.full((len(rows), self.values.shape[-1]), np.nan)
        if self.chains is not None and self.chains.shape[2] >= 4:
            import arviz

            statistic = getattr(arviz, name)
            for i, row in enumerate(rows):
                for j in np.flatnonzero(~self.evidence.observed[row]):
                    chains = self.chains[row, :, :, j].astype(float)
                    # A column that no chain ever moved has no within-chain variance.
                    with warnings.catch_warnings(), np.errstate(all="ignore"):
                        warnings.simplefilter("ignore")  # ArviZ's, of chains that stand still
                        out[i, j] = np.nan if np.ptp(chains) == 0 else float(statistic(chains))
        return out

    def summary(self):
        """One line per missing column (of each row): moments, quantiles and diagnostics.

        Returns
        -------
        pandas.DataFrame
            mean, sd, 5%, 50% and 95% quantiles (not for categories); ``acceptance``; ``r_hat``
            (rank-normalised, split) and ``ess_bulk`` of chains; ``importance_ess`` and ``pareto_k``
            of weighted methods. ``attrs`` holds method, encoder and decoder calls, and seconds.
        """
        import pandas as pd

        rows = self._rows
        r_hat = self._chain_statistic("rhat", range(len(rows)))
        ess = self._chain_statistic("ess", range(len(rows)))
        names = self.evidence.names or range(rows.shape[-1])
        lines, index = [], []
        for i, j in np.argwhere(~self.evidence.observed):
            draws = rows[i, :, j]
            if isinstance(kind_of(self.likelihood, j), Categorical):
                moments = [np.nan] * 5
            else:
                moments = [draws.mean(), draws.std(ddof=1) if len(draws) > 1 else np.nan,
                           *np.quantile(draws, [0.05, 0.5, 0.95])]
            lines.append([*moments, self.acceptance[i], r_hat[i, j], ess[i, j],
                          self.importance_ess[i], self.pareto_k[i]])
            index.append((i, names[j]))
        columns = ["mean", "sd", "5%", "50%", "95%", "acceptance", "r_hat", "ess_bulk",
                   "importance_ess", "pareto_k"]
        frame = pd.DataFrame(
            lines, columns=columns, index=pd.MultiIndex.from_tuples(index, names=["row", "column"])
        )
        frame = frame.droplevel("row") if self.evidence.single else frame
        frame.attrs = {"method": repr(self.method), "encoder_calls": self.encoder_calls,
                       "decoder_calls": self.decoder_calls, "seconds": self.seconds}
        return frame

    def to_arviz(self):
        """The draws as ``arviz.InferenceData``: one variable per column that is missing somewhere.

        Dimensions are (chain, draw), with a third, ``row``, for a table. Weighted draws are
        independent given the pool and form one chain.
        """
        import arviz

        chains = self._rows[:, None] if self.chains is None else self.chains
        names = self.evidence.names or range(chains.shape[-1])
        posterior = {}
        for j, name in enumerate(names):
            if not self.evidence.observed[:, j].all():
                posterior[str(name) if isinstance(name, str) else f"x{name}"] = (
                    chains[0, ..., j] if self.evidence.single else np.moveaxis(chains[..., j], 0, -1)
                )
        dims = None if self.evidence.single else {name: ["row"] for name in posterior}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="More chains")  # many short chains are meant
            return arviz.from_dict(
                posterior=posterior, dims=dims,
                attrs={"method": repr(self.method), "encoder_calls": self.encoder_calls,
                       "decoder_calls": self.decoder_calls},
            )

    def _warn(self, far, arrived):
        """Say once what is wrong with these draws, and what to do about it."""
        open_rows = np.flatnonzero(~self.evidence.observed.all(axis=1))
        step = max(1, len(open_rows) // _ROWS_CHECKED)
        rows = open_rows[::step]
        name = type(self.method).__name__
        problems = []
        if far is not None:
            # Weights say nothing there: a density that rounds to zero everywhere makes them equal.
            row, column, low, high = far
            problems.append(
                f"{column_label(column, self.evidence.names)} is {self.evidence.values[row, column]:.6g}, far "
                f"outside what the model draws ({low:.4g} to {high:.4g}): the conditional there is no more than "
                "the networks' extrapolation. Check the value and its unit"
            )
        if not arrived:
            problems.append(
                f"after {_MAX_STEPS} steps some rows have not reached the posterior: the evidence may "
                "contradict the model, or num_moves and num_chains are too small"
            )
        if hasattr(self.method, "finished") and (low := np.nanmin(self.acceptance[rows], initial=1.0)) < 0.02:
            problems.append(
                f"hardly any move is accepted ({low:.1%}): draws repeat few latents. Raise num_chains or num_moves"
            )
        if self.log_weights is not None:
            k, size = self._pareto_k(rows), self.importance_ess[rows]
            # A heavy tail does little harm to a pool that has far more to give than was drawn from it.
            draws = self.values.shape[-2]
            bad = ~((k < 0.7) | (size > 2 * draws)) | ~(size > 0.1 * draws)
            if bad.any():
                problems.append(
                    f"the importance weights have degenerated (Pareto-k {np.nanmax(k):.2f}, effective size "
                    f"{np.nanmin(size):.0f}): draws repeat few latents. Use "
                    "method='tempered_smc', raise oversampling, or check that the evidence is plausible"
                )
        if self.chains is not None and self.chains.shape[2] >= 4:
            r_hat = self._chain_statistic("rhat", rows)
            worst = np.nanmax(r_hat, initial=1.0)
            if worst > 1.1:
                problems.append(
                    f"the chains have not mixed (R-hat {worst:.2f}): they still show where they started. "
                    "Use method='tempered_smc', or raise warmup and thin"
                )
        if not self.method.exact:
            if np.isnan(self.acceptance).all():
                problems.append(
                    "one pass is not a sampler of the conditional: it returns decoder means of completions "
                    "that were drawn without the evidence. Use method='tempered_smc'"
                )
            elif (low := np.nanmin(self.acceptance[rows])) < 0.9:
                problems.append(
                    f"a Metropolis test would reject {1 - low:.0%} of the moves, so the draws are biased: "
                    "the encoder is not the posterior here. Use method='tempered_smc'"
                )
        if problems:
            warnings.warn(f"{name}: " + "; ".join(problems) + ".", SamplingWarning, stacklevel=3)


def sample_conditional(
    model,
    observed,
    num_samples=1000,
    method="tempered_smc",
    *,
    mask=None,
    seed=None,
    num_chains=None,
    warmup=None,
    thin=None,
    num_steps=None,
    start=None,
    progress=True,
    max_memory=1.0,
):
    """Draw the missing columns given the observed ones, p(x_m | x_o), from a latent-variable model.

    Parameters
    ----------
    model : LatentVariableModel
        A trained `VAE`, a wrapped one (`wrap`), or anything with ``latent_dim``, ``encode``,
        ``decode`` and ``likelihood``.
    observed : mapping, array or table
        ``{column: value}`` by index or name; or a row (d,) or table (n, d) with NaN in the holes.
        An empty dict asks for joint draws.
    num_samples : int
        Draws per row, s.
    method : str or method object
        ``"one_pass"``, ``"pseudo_gibbs"``, ``"metropolis_within_gibbs"``, ``"adaptive_collapsed"``,
        ``"importance"``, ``"lair"``, ``"tempered_smc"``, or settings such as
        ``samplers.LAIR(num_proposals=4)``.
    mask : array of bool, optional
        **True means observed.** Cells of ``observed`` elsewhere are ignored.
    seed : int, optional
        Same seed, same bits, on one machine. By default a fresh one.
    num_chains : int, optional
        Chains per row; for weighted methods, independent groups of proposals per row; for tempered
        SMC the population.
    warmup, thin : int, optional
        Steps before the first kept state, and steps for each kept state (methods that run chains).
    num_steps : int, optional
        Steps (weighted methods).
    start : array (n, C, d) or (C, d), optional
        Completions to start from; by default draws from the prior. Tempered SMC takes none.
    progress : bool
        Show a bar when the run takes longer than two seconds.
    max_memory : float
        Working memory in GiB. Rows and chains are processed in blocks that fit.

    Returns
    -------
    ConditionalDraws
        ``values`` is (s, d), or (n, s, d) for a table, in data units.

    Raises
    ------
    ValueError, TypeError, KeyError
        Before anything is computed, with the column and the remedy.

    Warns
    -----
    SamplingWarning
        Once per call, if chains have not mixed or weights have degenerated.

    Examples
    --------
    >>> draws = sample_conditional(vae, {0: 1.0}, num_samples=5_000, seed=0)  # doctest: +SKIP
    >>> draws.values[:, 1].mean()  # doctest: +SKIP
    """
    method = _as_method(method)
    for name in ("latent_dim", "encode", "decode", "likelihood"):
        if isinstance(model, type) or not hasattr(model, name):
            raise TypeError(f"model must be a VAE, a wrapped one or have {name!r} like them, got {model!r}")
    num_features = _num_features(model)
    names = getattr(model, "feature_names", None) or getattr(model.likelihood, "names", None)
    evidence = check_evidence(observed, num_features, model.likelihood, names, mask)
    num_rows = len(evidence.values)
    num_samples = _positive("num_samples", num_samples)
    if num_rows * num_samples * num_features * 8 > _MAX_RESULT_BYTES:
        raise ValueError(
            f"num_samples={num_samples} for {num_rows} rows of {num_features} columns would fill "
            f"{num_rows * num_samples * num_features * 8 / 2**30:.3g} GiB: ask for fewer draws or rows"
        )
    if not isinstance(max_memory, int | float | np.number) or not 0 < max_memory < math.inf:
        raise ValueError(f"max_memory must be a positive number of GiB, got {max_memory!r}")
    if seed is None:
        seed = int(np.random.default_rng().integers(2**31))
    elif not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer or None, got {seed!r}")
    method = _sized(method, num_samples)
    plan = _plan(method, num_samples, num_chains, warmup, thin, num_steps)
    if getattr(method, "pseudo_gibbs_steps", 0) > plan.warmup:  # no biased step may be kept
        method = replace(method, pseudo_gibbs_steps=plan.warmup)
    size = method.calls[1] * (model.latent_dim + 1) if method.weighted else num_features
    kept = plan.num_chains * plan.keep * size * 4
    if max(plan.num_chains, plan.num_steps) >= 2**31 or kept > _MAX_RESULT_BYTES:
        raise ValueError(
            f"{plan.num_chains} chains of {plan.num_steps} steps would keep {kept / 2**30:.3g} GiB for a row: "
            "lower num_samples, num_chains, num_steps, warmup or thin"
        )
    if start is not None and not getattr(method, "takes_start", True):
        raise ValueError(f"{type(method).__name__} starts from the prior: leave start out")
    start = _check_start(start, num_rows, plan.num_chains * _completions(method), num_features, evidence)

    began = time.perf_counter()
    values = np.repeat(evidence.values[:, None], num_samples, axis=1)
    holes = np.flatnonzero(~evidence.observed.all(axis=1))
    result = _Result(num_rows)
    if len(holes):
        run = _Run(model, method, plan, num_samples, int(seed), progress)
        result = run(evidence, holes, start, max_memory, num_features)
        values[holes] = np.where(evidence.observed[holes, None], values[holes], result.draws)
    draws = ConditionalDraws(
        values=values[0] if evidence.single else values,
        evidence=evidence,
        method=method,
        acceptance=result.spread(result.acceptance, num_rows, holes),
        encoder_calls=result.encoder_calls,
        decoder_calls=result.decoder_calls,
        chains=result.spread(result.chains, num_rows, holes, evidence.values),
        log_weights=result.spread(result.log_weights, num_rows, holes),
        seconds=time.perf_counter() - began,
        likelihood=model.likelihood,
    )
    if len(holes):
        draws._warn(_far_cell(model, evidence, holes), result.arrived)
    return draws


def conditional_sampler(
    model, data, sampled_variables, conditioned_variables, condition_values, num_samples, seed=None,
    method="one_pass", progress=True,
):
    """The origin note's function under its own name: its one pass, or any other method.

    Rows of ``data`` are picked at random, the conditioned columns are overwritten, and encoder and
    decoder run once. The other methods use the same rows as their starting points (tempered SMC
    has none).

    Parameters
    ----------
    model : LatentVariableModel
    data : array (n, d)
        Training rows to start from.
    sampled_variables, conditioned_variables : sequence of int or str
        Columns to return, and columns to fix.
    condition_values : sequence
        One value per conditioned column.
    num_samples : int
    seed : int, optional
    method : str or method object
    progress : bool
        Show a bar when the run takes longer than two seconds.

    Returns
    -------
    ndarray (num_samples, len(sampled_variables))
        In data units; for the one pass decoder *means*, as in the note.

    Examples
    --------
    >>> conditional_sampler(vae, x, [1], [0], [1.0], 5_000, seed=0)  # doctest: +SKIP
    """
    if len(conditioned_variables) != len(condition_values):
        raise ValueError(
            f"{len(conditioned_variables)} conditioned_variables but {len(condition_values)} condition_values"
        )
    num_features = _num_features(model)
    names = getattr(model, "feature_names", None)
    columns = [column_index(c, num_features, names) for c in sampled_variables]
    fixed = [column_index(c, num_features, names) for c in conditioned_variables]
    for column in set(columns) & set(fixed):
        raise ValueError(f"{column_label(column, names)} is both sampled and conditioned on")
    if len(set(fixed)) < len(fixed):
        raise ValueError("a column stands twice in conditioned_variables")
    method = _sized(_as_method(method), _positive("num_samples", num_samples))
    plan = _plan(method, num_samples, None, None, None, None)
    data = check_evidence(data, num_features, model.likelihood, names).values
    rows = np.random.default_rng(seed).integers(len(data), size=plan.num_chains * _completions(method))
    draws = sample_conditional(
        model, dict(zip(fixed, condition_values, strict=True)), num_samples, method, seed=seed,
        start=data[rows] if len(rows) and getattr(method, "takes_start", True) else None, progress=progress,
    )
    return draws.values[:, columns]


@dataclass(frozen=True)
class _Plan:
    num_chains: int
    warmup: int
    keep: int
    thin: int

    @property
    def num_steps(self):
        return self.warmup + self.keep * self.thin


def _plan(method, num_samples, num_chains, warmup, thin, num_steps):
    """Chains and steps for the number of draws asked for."""
    for name, value in [("num_chains", num_chains), ("thin", thin), ("num_steps", num_steps)]:
        if value is not None:
            _positive(name, value)
    if warmup is not None and (not isinstance(warmup, int | np.integer) or warmup < 0):
        raise ValueError(f"warmup must be a non-negative integer, got {warmup!r}")
    name = type(method).__name__
    if method.weighted:
        if warmup is not None or thin is not None:
            raise ValueError(f"warmup and thin are for chains; {name} pools all its steps (set num_steps)")
        steps = num_steps or method.num_steps
        chains = num_chains or math.ceil(method.oversampling * num_samples / (steps * method.calls[1]))
        return _Plan(chains, 0, steps, 1)
    if num_steps is not None:
        raise ValueError(f"num_steps is for weighted methods; {name} runs chains (set warmup and thin)")
    per_chain = method.draws_per_chain
    warmup = method.warmup if warmup is None else warmup
    free = getattr(method, "pseudo_gibbs_steps", 0)
    if free > warmup and free != getattr(type(method), "pseudo_gibbs_steps", 0):  # set by the user
        raise ValueError(
            f"pseudo_gibbs_steps={free} accept every move and must lie within warmup={warmup}: "
            "raise warmup or lower pseudo_gibbs_steps"
        )
    if per_chain == 1:
        chains = num_chains or max(num_samples, getattr(method, "min_chains", 1))
        return _Plan(chains, warmup, math.ceil(num_samples / chains), thin or method.thin)
    chains = num_chains or max(4, math.ceil(num_samples / per_chain))
    # At least 100 kept states, so that R-hat means something for a handful of draws too.
    keep = max(math.ceil(num_samples / chains), math.ceil(100 / chains))
    return _Plan(chains, warmup, keep, thin or max(1, method.thin * per_chain // max(keep, per_chain)))


class _Result:
    """What a run returns, row by row; `spread` puts it among the rows that had no holes."""

    def __init__(self, num_rows):
        self.draws = self.chains = self.log_weights = None
        self.acceptance = np.full(num_rows, np.nan)
        self.encoder_calls = self.decoder_calls = 0
        self.arrived = True

    @staticmethod
    def spread(array, num_rows, holes, fill=None):
        if array is None or len(array) == num_rows:
            return array
        out = np.full((num_rows, *array.shape[1:]), np.nan, array.dtype)
        if fill is not None:
            out[:] = fill[:, None, None]
        out[holes] = array
        return out


class _Run:
    """One call of `sample_conditional`: blocks of rows and chains through the compiled loop."""

    def __init__(self, model, method, plan, num_samples, seed, progress):
        self.method, self.plan, self.num_samples = method, plan, num_samples
        self.functions = _compiled(model, method)
        self.num_features, self.latent_dim = _num_features(model), model.latent_dim
        self.width = _activation_width(model)
        self.seed, self.progress = seed, progress
        self.began, self.done, self.bar = time.perf_counter(), 0, None
        self.steps, self.rounds, self.arrived = 0, 0, True

    def __call__(self, evidence, holes, start, max_memory, num_features):
        row_block, chain_block = self._blocks(len(holes), max_memory)
        row_starts = range(0, len(holes), row_block)
        chain_starts = range(0, self.plan.num_chains, chain_block)
        self.num_segments = self._segments(min(row_block, len(holes)), chain_block)
        self.target = len(row_starts) * len(chain_starts) * self.num_segments
        parts = []
        for block, first in enumerate(row_starts):
            rows = holes[first : first + row_block]
            observed = Observed(
                tf.constant(np.clip(np.nan_to_num(evidence.values[rows])[:, None], -1e38, 1e38), "float32"),
                tf.constant(evidence.observed[rows][:, None]),
            )
            pieces = []
            for piece, chain in enumerate(chain_starts):
                count = min(chain_block, self.plan.num_chains - chain)
                seeds = np.random.SeedSequence([self.seed, block, piece]).generate_state(3).astype(np.int64)
                seeds = tf.constant((seeds % 2**31).astype(np.int32))
                begin = None if start is None else self._start(start, rows, chain, count)
                pieces.append(self._chains(observed, count, seeds, begin))
            parts.append(self._finish(observed, pieces, block))
        if self.bar is not None:
            self.bar.update(self.rounds if self.bar.target is None else self.target, finalize=True)
        result = _Result(len(holes))
        result.draws, result.acceptance, result.chains, result.log_weights = (
            None if part[0] is None else np.concatenate(part) for part in zip(*parts, strict=True)
        )
        encoder_calls, decoder_calls = self.method.calls
        result.encoder_calls = self.steps * encoder_calls
        result.decoder_calls = self.steps * decoder_calls
        result.arrived = self.arrived
        if self.method.weighted:
            result.decoder_calls += len(holes) * self.num_samples
        return result

    def _start(self, start, rows, chain, count):
        per = _completions(self.method)
        return tf.constant(np.broadcast_to(start, (start.shape[0], *start.shape[1:]))[
            rows if len(start) > 1 else [0] * len(rows), chain * per : (chain + count) * per
        ], "float32")

    def _blocks(self, num_rows, max_memory):
        """Rows and chains per block, from a rough count of the floats that each keeps alive."""
        d, l = self.num_features, self.latent_dim
        encoders, decoders = self.method.calls
        alive = decoders if self.method.weighted else 2  # rows that a step holds at a time
        floats = alive * (self.width + 6 * d + 6 * l) + 2 * encoders * alive * l
        if self.method.weighted:
            floats += self.plan.keep * decoders * (l + 1)
        else:
            floats += self.plan.keep * d
            if hasattr(self.method, "prior_probability"):  # the history
                floats += 2 * self.plan.num_steps * d
        chains = max(1, int(max_memory * 2**30 / (4 * floats)))
        if chains >= self.plan.num_chains:
            return min(num_rows, chains // self.plan.num_chains), self.plan.num_chains
        return 1, chains

    def _segments(self, rows, chains):
        """A long run goes through the compiled loop in pieces, so that it can show its progress."""
        work = rows * chains * self.plan.num_steps * self.method.calls[1] * self.width
        return int(min(20, max(1, work // 5e8), self.plan.keep))

    def _chains(self, observed, num_chains, seeds, start):
        plan = self.plan
        first = self.functions["init"](
            observed, tf.constant(num_chains), tf.constant(plan.num_steps), seeds[:2], start
        )
        state, step = first, tf.constant(0)
        arrived = getattr(self.method, "finished", lambda state: True)
        while not arrived(state) and step < _MAX_STEPS:
            state, step, _, _ = self.functions["advance"](
                observed, state, seeds[1:], step, tf.constant(1), tf.constant(2)
            )
            self.rounds += 1
            self._show()
        self.arrived = self.arrived and arrived(state)
        if plan.warmup:
            state, step, _, _ = self.functions["advance"](
                observed, state, seeds[1:], step, tf.constant(1), tf.constant(plan.warmup)
            )
        kept, acceptance = [], 0.0
        for size in np.diff(np.linspace(0, plan.keep, self.num_segments + 1).astype(int)):
            state, step, draws, accepted = self.functions["advance"](
                observed, state, seeds[1:], step, tf.constant(int(size)), tf.constant(plan.thin)
            )
            kept.append(tf.nest.map_structure(lambda a: a.numpy(), draws))
            acceptance = acceptance + accepted.numpy()
            self._tick()
        kept = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *kept)
        self.steps += len(observed.values) * num_chains * int(step)
        return kept, acceptance / (plan.keep * plan.thin)

    def _tick(self):
        self.done += 1
        if self.done < self.target:
            self._show()

    def _show(self):
        if self.progress and self.bar is None and time.perf_counter() - self.began > 2.0:
            # One part that goes on until it is ready: count what it does, nobody knows how long.
            one = self.target == 1
            self.bar = keras.utils.Progbar(None if one else self.target, unit_name="round" if one else "part")
        if self.bar is not None:
            self.bar.update(self.rounds if self.bar.target is None else self.done)

    def _finish(self, observed, pieces, block):
        """Draws (n, s, d), acceptance (n,), kept chains and pooled log weights of one block of rows."""
        kept = [piece[0] for piece in pieces]
        acceptance = np.concatenate([np.broadcast_to(p[1], p[1].shape) for p in pieces], axis=1).mean(axis=1)
        if self.method.weighted:
            # Pool steps, chains and particles: (T, n, C, P, ...) to (n, T C P, ...)
            z = np.concatenate([k.z for k in kept], axis=2)
            log_weight = np.concatenate([k.log_weight for k in kept], axis=2)
            z = np.moveaxis(z, 1, 0).reshape(z.shape[1], -1, z.shape[-1])
            log_weight = np.moveaxis(log_weight, 1, 0).reshape(len(z), -1)
            seed = np.random.SeedSequence([self.seed, block, 2**20]).generate_state(2).astype(np.int64)
            draws = self.functions["pool"](
                observed, tf.constant(z), tf.constant(log_weight), tf.constant(self.num_samples),
                tf.constant((seed % 2**31).astype(np.int32)),
            ).numpy()
            return draws, np.full(len(z), np.nan), None, log_weight
        chains = np.moveaxis(np.concatenate(kept, axis=2), 0, 2)  # (n, C, t, d)
        flat = np.swapaxes(chains, 1, 2).reshape(len(chains), -1, chains.shape[-1])
        pick = np.linspace(0, flat.shape[1], self.num_samples, endpoint=False).astype(int)
        if self.method.draws_per_chain == 1 and not self.method.exact:
            return flat[:, pick], np.full(len(flat), np.nan), chains, None
        return flat[:, pick], acceptance, chains, None


_cache: OrderedDict = OrderedDict()


def _compiled(model, method):
    """The compiled functions of one model and method; the last 32 pairs are kept."""
    key = (id(model), method)
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]

    @tf.function(autograph=False, reduce_retracing=True)
    def init(observed, num_chains, num_steps, seed, start):
        return method.init(model, observed, num_chains, num_steps, seed, start)

    @tf.function(autograph=False, reduce_retracing=True)
    def advance(observed, state, seed, first, num_kept, thin):
        """``num_kept`` times: take ``thin`` steps and keep what the method has to show."""

        def one_step(step, state, acceptance):
            new, info = method.step(model, observed, state, seed + [1, 0] * step)
            total = tf.ensure_shape(acceptance + info.acceptance, acceptance.shape)
            return step + 1, shaped_like(new, state), total

        def keep_one(k, step, state, acceptance, kept):
            last = step + thin
            step, state, acceptance = tf.while_loop(
                lambda s, *_: s < last, one_step, (step, state, acceptance)
            )
            shown = tf.nest.flatten(state.particles if method.weighted else state.x)
            kept = [array.write(k, value) for array, value in zip(kept, shown, strict=True)]
            return k + 1, step, state, acceptance, kept

        shown = state.particles if method.weighted else state.x
        kept = [tf.TensorArray(a.dtype, num_kept, element_shape=a.shape) for a in tf.nest.flatten(shown)]
        shape = tf.shape(shown.z if method.weighted else shown)[:2]
        acceptance = tf.zeros(shape)
        acceptance = tf.ensure_shape(acceptance, tf.nest.flatten(shown)[0].shape[:2])
        _, step, state, acceptance, kept = tf.while_loop(
            lambda k, *_: k < num_kept, keep_one, (tf.constant(0), first, state, acceptance, kept)
        )
        kept = tf.nest.pack_sequence_as(shown, [array.stack() for array in kept])
        return state, step, kept, acceptance

    @tf.function(autograph=False, reduce_retracing=True)
    def pool(observed, z, log_weight, num_samples, seed):
        """Resample once from everything, decode once."""
        z = take(z, resample(log_weight, num_samples, seed))
        return impute(model, observed, model.decode(z), seed + [0, 1])

    for function in (init, advance, pool):
        # One graph for each method and shape is meant. TensorFlow counts the functions of all
        # methods as one, and would warn of retracing after the fifth.
        function._omit_frequent_tracing_warning = True
    _cache[key] = {"init": init, "advance": advance, "pool": pool, "model": model}
    if len(_cache) > 32:
        _cache.popitem(last=False)
    return _cache[key]


def _as_method(method):
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
        return METHODS[method]()
    if isinstance(method, type) or not hasattr(method, "step"):
        raise TypeError(f"method must be a name or a settings object such as samplers.LAIR(), got {method!r}")
    return method


def _sized(method, num_samples):
    """A method whose settings follow the number of draws says so with ``sized``."""
    return method.sized(num_samples) if hasattr(method, "sized") else method


def _completions(method):
    """Completions that one chain starts from."""
    return method.calls[0] if method.weighted else 1


def _positive(name, value):
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def _num_features(model):
    if hasattr(model, "num_features"):
        return int(model.num_features)
    z = np.zeros((1, model.latent_dim), np.float32)
    return int(model.likelihood.mean(model.decode(z)).shape[-1])


def _check_start(start, num_rows, count, num_features, evidence):
    if start is None:
        return None
    start = np.asarray(start, float)
    start = start[None] if start.ndim == 2 else start
    if start.shape[0] not in (1, num_rows) or start.shape[1:] != (count, num_features):
        raise ValueError(f"start must have shape ({num_rows}, {count}, {num_features}), got {start.shape}")
    if not (np.abs(np.where(evidence.observed[:, None], 0.0, start)) < 1e38).all():
        raise ValueError("start must have a finite value in every missing column")
    return np.nan_to_num(start)


def _far_cell(model, evidence, rows, num_draws=256):
    """The observed number that lies farthest outside the model's own draws, if one is out by more
    than their whole range: (row, column, lowest draw, highest draw), or None."""
    labels = [isinstance(kind_of(model.likelihood, j), Bernoulli | Categorical)
              for j in range(evidence.values.shape[1])]
    seen = evidence.observed[rows] & ~np.array(labels)
    if not seen.any():
        return None
    z = tf.random.stateless_normal((num_draws, model.latent_dim), [0, 0])
    draws = model.likelihood.sample(model.decode(z), tf.constant([0, 1])).numpy().astype(float)
    low, high = draws.min(axis=0), draws.max(axis=0)
    values = np.where(seen, evidence.values[rows], low)
    out = np.maximum(low - values, values - high) / np.where(high > low, high - low, np.inf)
    row, column = np.unravel_index(out.argmax(), out.shape)
    return (rows[row], column, low[column], high[column]) if out[row, column] > 1.0 else None


def _activation_width(model):
    """Floats that both networks hold for one row: the sum of their layers' widths."""
    width = 0
    for network in (getattr(model, "encoder", None), getattr(model, "decoder", None)):
        for layer in getattr(network, "layers", []):
            outputs = tf.nest.flatten(layer.output)
            width += sum(math.prod(int(size or 1) for size in output.shape[1:]) for output in outputs)
    return max(width, 256)


def _decode_column(values, kind):
    if isinstance(kind, Categorical) and not isinstance(kind.categories, int | np.integer):
        categories = np.empty(len(kind.categories), dtype=object)
        categories[:] = kind.categories
        return categories[values.astype(int)]
    if isinstance(kind, Bernoulli | Categorical):
        return values.astype(int)
    return values
