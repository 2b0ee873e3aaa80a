"""The way in: `sample_conditional`, and the origin note's `conditional_sampler`."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from reprlib import repr as short
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from . import loop
from . import model as models
from .draws import ConditionalDraws, SamplingWarning, diagnose
from .evidence import Evidence, check_evidence, column_index, column_label, is_dask
from .samplers import Auto, Laplace, Plan, Sampler, as_sampler

_MAX_RESULT_BYTES = 16 * 2**30
_MOST_REPEATS = 5  # draws of a row that the default method lets fall on latents drawn more than twice
_ROWS_CHECKED = 20  # diagnostics of these many rows decide on a warning; `diagnose` covers all


def sample_conditional(
    model: models.LatentVariableModel,
    observed: Mapping[Any, Any] | ArrayLike,
    num_samples: int = 1000,
    method: str | Sampler | Auto = "auto",
    *,
    mask: ArrayLike | None = None,
    seed: int | None = None,
    num_chains: int | None = None,
    warmup: int | None = None,
    thin: int | None = None,
    num_steps: int | None = None,
    start: ArrayLike | None = None,
    progress: bool = True,
    max_memory: float = 1.0,
    row_numbers: ArrayLike | None = None,
) -> ConditionalDraws:
    """Draw the missing columns given the observed ones, p(x_m | x_o), from a latent-variable model.

    Parameters
    ----------
    model : LatentVariableModel
        A trained `VAE`, a wrapped one (`wrap`), or anything with ``latent_dim``, ``encode``,
        ``decode`` and ``likelihood``.
    observed : mapping, array or table
        ``{column: value}`` by index or name; or a row (d,) or table (n, d) with NaN in the holes.
        An empty dict asks for joint draws. Or a table (n, d) of Dask, drawn part by part.
    num_samples : int
        Draws per row, s.
    method : str, Sampler or Auto
        ``"auto"`` takes `Laplace <samplers.Laplace>` for rows whose weights are sound, and tempered
        SMC for the others. Or one by name: ``"one_pass"``, ``"pseudo_gibbs"``,
        ``"metropolis_within_gibbs"``, ``"adaptive_collapsed"``, ``"importance"``, ``"lair"``,
        ``"laplace"``, ``"tempered_smc"``; or settings such as ``samplers.LAIR(num_proposals=4)``.
    mask : array of bool, optional
        **True means observed.** Cells of ``observed`` elsewhere are ignored.
    seed : int, optional
        Same seed, same bits, on one machine. By default a fresh one. The draws of a row follow from
        the seed and from the row's number in the table.
    num_chains, warmup, thin, num_steps : int, optional
        Settings of a method that was named: chains per row (independent groups of proposals, members of
        a population), steps before the first kept state, steps for each kept state; steps of a
        weighted method.
    start : array (n, C, d) or (C, d), optional
        Completions to start from; by default draws from the prior. Laplace and tempered SMC take none.
    progress : bool
        Show a bar when the run takes longer than two seconds.
    row_numbers : array of int (n,), optional
        Numbers of the rows, each different, from which their draws follow; by default their places 0, 1, ...
        Parts of a table, drawn with the numbers of their rows in the whole, get the draws of the whole.
    max_memory : float
        Working memory in GiB. Rows are processed in blocks that fit; the draws do not depend on it.

    Returns
    -------
    ConditionalDraws
        ``values`` is (s, d), or (n, s, d) for a table, in data units. Of a Dask table, only these values:
        a Dask array (n, s, d), with the bits that the table in memory gets with ``row_numbers=range(n)``.

    Raises
    ------
    ValueError, TypeError, KeyError
        Before anything is computed, with the column and the remedy.

    Warns
    -----
    SamplingWarning
        Once per call, with what `diagnose` finds in twenty rows.

    Examples
    --------
    >>> draws = sample_conditional(vae, {0: 1.0}, num_samples=5_000, seed=0)  # doctest: +SKIP
    >>> draws.values[:, 1].mean()  # doctest: +SKIP
    """
    began = time.perf_counter()
    sampler = as_sampler(method)
    settings = {"num_chains": num_chains, "warmup": warmup, "thin": thin, "num_steps": num_steps}
    if is_dask(observed):
        from .parts import conditionals

        lazily: dict[str, Any] = {
            "mask": mask,
            "start": start,
            "row_numbers": row_numbers,
            "max_memory": max_memory,
            "method": sampler,
        }
        lazily |= {"progress": False, **settings}
        drawn: Any = conditionals(sample_conditional, model, observed, num_samples, seed, lazily)
        return drawn
    if isinstance(sampler, Sampler):
        sampler = _configured(sampler, **settings)
    elif given := [name for name, value in settings.items() if value is not None]:
        raise ValueError(f"{given[0]} is a setting of one method: name it, for example method='tempered_smc'")
    models.check_model(model)
    num_features = models.num_features(model)
    evidence = check_evidence(observed, num_features, model.likelihood, models.feature_names(model), mask)
    num_rows = len(evidence.values)
    if not isinstance(num_samples, int | np.integer) or isinstance(num_samples, bool) or num_samples < 1:
        raise ValueError(f"num_samples must be a positive integer, got {num_samples!r}")
    if not isinstance(max_memory, int | float | np.number) or not 0 < max_memory < math.inf:
        raise ValueError(f"max_memory must be a positive number of GiB, got {max_memory!r}")
    if seed is None:
        seed = int(np.random.default_rng().integers(2**31))
    elif not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer or None, got {seed!r}")
    _check_result(num_rows, num_samples, num_features)
    holes = np.flatnonzero(~evidence.observed.all(axis=1))
    values = np.repeat(evidence.values[:, None], num_samples, axis=1)
    numbers = _row_numbers(row_numbers, num_rows)
    model_range, knows_fisher = _probe(model)
    run = _Run(
        model,
        evidence,
        numbers,
        num_samples,
        int(seed),
        start,
        progress,
        float(max_memory),
        model_range,
        row_numbers is not None,
    )
    if isinstance(sampler, Sampler):
        draws = run.draw(sampler, holes, values)
    else:
        skip = isinstance(sampler.first, Laplace) and not knows_fisher
        draws = run.draw_by_turns(sampler, [] if skip else sampler.tries(num_samples), holes, values)
    draws = replace(draws, seconds=time.perf_counter() - began)
    if findings := diagnose(draws, max_rows=_ROWS_CHECKED):
        problems = "; ".join(finding.message for finding in findings)
        warnings.warn(f"{type(sampler).__name__}: {problems}.", SamplingWarning, stacklevel=2)
    return draws


@dataclass
class _Run:
    """One call of `sample_conditional`: everything but the method and the rows."""

    model: models.LatentVariableModel
    evidence: Evidence
    numbers: np.ndarray
    num_samples: int
    seed: int
    start: ArrayLike | None
    progress: bool
    max_memory: float
    model_range: np.ndarray
    is_part: bool

    def draw(self, sampler: Sampler, rows: np.ndarray, values: np.ndarray) -> ConditionalDraws:
        """Draw completions of ``rows`` by one method, into ``values`` (n, s, d)."""
        evidence, num_rows = self.evidence, len(self.evidence.values)
        filled, plan = sampler.plan(self.num_samples, self.model.latent_dim)
        _check_run(plan, values.shape[-1], self.model.latent_dim)
        begin = None
        if self.start is not None:
            if not sampler.accepts_start:
                raise ValueError(f"{type(sampler).__name__} starts from the prior: leave start out")
            begin = _checked_start(self.start, num_rows, plan.num_chains * plan.num_encoders, evidence)
            begin = begin[rows] if len(begin) > 1 else begin
        acceptance, arrived = np.full(num_rows, np.nan), np.ones(num_rows, bool)
        chains = log_weights = None
        calls = (0, 0)
        if len(rows):
            order = np.argsort(self.numbers[rows])
            rows, begin = rows[order], begin if begin is None or len(begin) == 1 else begin[order]
            numbers = self.numbers[rows]
            run = evidence, rows, numbers, self.seed, begin, self.progress, self.max_memory, self.is_part
            result = loop.run(self.model, sampler, self.num_samples, *run)
            values[rows] = np.where(evidence.observed[rows, None], evidence.values[rows, None], result.draws)
            acceptance[rows], arrived[rows] = result.acceptance, result.arrived
            if result.chains is not None:
                known = np.clip(evidence.values, -1e38, 1e38).astype(np.float32)[:, None, None]
                chains = known.repeat(result.chains.shape[1], 1).repeat(result.chains.shape[2], 2)
                chains[rows] = result.chains
            if result.log_weights is not None:
                log_weights = np.full((num_rows, result.log_weights.shape[1]), np.nan, np.float32)
                log_weights[rows] = result.log_weights
            calls = result.encoder_calls, result.decoder_calls
        return self._result(filled, values, acceptance, arrived, calls, chains, log_weights)

    def draw_by_turns(self, method: Auto, tries: Sequence[Sampler], rows, values) -> ConditionalDraws:
        """Draw ``rows`` by the first of some tries whose weights are sound, else by the thorough method."""
        parts: list[tuple[np.ndarray, ConditionalDraws]] = []
        # Another seed for each, so that what chose the rows is not what draws them.
        seeds = [self.seed, *np.random.SeedSequence(self.seed).generate_state(len(tries) + 2)[2:].tolist()]
        calls = np.zeros(2, int)
        for sampler, seed in zip([*tries, method.then], seeds, strict=True):
            if len(rows):
                run = replace(self, evidence=self.evidence.take(rows), numbers=self.numbers[rows], seed=seed)
                own = values if len(rows) == len(values) else values[rows]  # the whole table is not copied
                part = run.draw(sampler, np.arange(len(rows)), own)
                calls += part.encoder_calls, part.decoder_calls
                kept = np.ones(len(rows), bool) if sampler is method.then else _sound(part)
                parts.append((rows[kept], part if kept.all() else part.take(np.flatnonzero(kept))))
                if own is not values:
                    values[rows[kept]] = parts[-1][1].values
                rows = rows[~kept]
        acceptance, arrived = np.full(len(values), np.nan), np.ones(len(values), bool)
        for done, part in parts:
            acceptance[done], arrived[done] = part.acceptance, part.arrived
        return self._result(method, values, acceptance, arrived, calls, parts=tuple(parts))

    def _result(self, method, values, acceptance, arrived, calls, chains=None, log_weights=None, parts=()):
        return ConditionalDraws(
            values[0] if self.evidence.single else values,
            self.evidence,
            method,
            acceptance,
            int(calls[0]),
            int(calls[1]),
            chains,
            log_weights,
            arrived,
            self.model_range,
            0.0,
            self.model.likelihood,
            parts,
        )


def _sound(tried: ConditionalDraws) -> np.ndarray:
    """Say whose weights (n,) leave as much as was asked for, in every part of the posterior."""
    num_samples = tried.values.shape[-2]
    enough = tried.importance_ess >= num_samples
    # A small mode that only a few of the prior's proposals have met hardly shows in the effective size
    # of all of them, but each of these few is drawn again and again.
    enough &= num_samples * tried._repeated_share() <= _MOST_REPEATS
    enough[enough] = tried._pareto_k(np.flatnonzero(enough)) <= 0.7
    return enough


def conditional_sampler(
    model: models.LatentVariableModel,
    data: ArrayLike,
    sampled_variables: Sequence[int | str],
    conditioned_variables: Sequence[int | str],
    condition_values: Sequence[Any],
    num_samples: int,
    seed: int | None = None,
    method: str | Sampler | Auto = "one_pass",
    progress: bool = True,
) -> np.ndarray:
    """Sample by the origin note's function under its own name: its one pass, or any other method.

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
    method : str, Sampler or Auto
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
    num_features, names = models.num_features(model), models.feature_names(model)
    columns = [column_index(c, num_features, names) for c in sampled_variables]
    fixed = [column_index(c, num_features, names) for c in conditioned_variables]
    for column in set(columns) & set(fixed):
        raise ValueError(f"{column_label(column, names)} is both sampled and conditioned on")
    if len(set(fixed)) < len(fixed):
        raise ValueError("a column stands twice in conditioned_variables")
    sampler = as_sampler(method)
    data = check_evidence(data, num_features, model.likelihood, names).values
    start = None
    if isinstance(sampler, Sampler) and sampler.accepts_start:
        _, plan = sampler.plan(num_samples, model.latent_dim)
        rows = np.random.default_rng(seed).integers(len(data), size=plan.num_chains * plan.num_encoders)
        start = data[rows] if len(rows) else None
    draws = sample_conditional(
        model,
        dict(zip(fixed, condition_values, strict=True)),
        num_samples,
        sampler,
        seed=seed,
        start=start,
        progress=progress,
    )
    return draws.values[:, columns]


def _configured(sampler, **settings):
    """Give the sampler the settings of its run that were given by name."""
    given = {name: value for name, value in settings.items() if value is not None}
    name = type(sampler).__name__
    for setting in given.keys() - set(sampler.run_settings()):
        if setting == "num_steps":
            raise ValueError(f"num_steps is for weighted methods; {name} runs chains (set warmup and thin)")
        raise ValueError(f"warmup and thin are for chains; {name} pools all its steps (set num_steps)")
    return replace(sampler, **given)


def _check_result(num_rows, num_samples, num_features):
    """Refuse draws that no memory holds, before anything is computed."""
    size = num_rows * num_samples * num_features * 8
    if size > _MAX_RESULT_BYTES:
        raise ValueError(
            f"num_samples={num_samples} for {num_rows} rows of {num_features} columns would fill "
            f"{size / 2**30:.3g} GiB: ask for fewer draws or rows"
        )


def _check_run(plan: Plan, num_features, latent_dim):
    """Refuse a run whose kept states no memory holds."""
    particles = plan.num_encoders + plan.num_prior
    kept = plan.num_chains * plan.num_kept * max(particles * (latent_dim + 1), num_features) * 4
    if max(plan.num_chains, plan.num_steps) >= 2**31 or kept > _MAX_RESULT_BYTES:
        raise ValueError(
            f"{plan.num_chains} chains of {plan.num_steps} steps would keep {kept / 2**30:.3g} GiB for a row: "
            "lower num_samples, num_chains, num_steps, warmup or thin"
        )


def _row_numbers(given, num_rows) -> np.ndarray:
    """Check the numbers of the rows (n,)."""
    if given is None:
        return np.arange(num_rows)
    numbers = np.asarray(given)
    if numbers.shape != (num_rows,) or numbers.dtype.kind not in "iu":
        raise ValueError(f"row_numbers must be {num_rows} integers, one for each row, got {short(given)}")
    if numbers.min() < 0 or numbers.max() >= 2**31 or len(np.unique(numbers)) < num_rows:
        raise ValueError("row_numbers must be different from one another, and between 0 and 2**31 - 1")
    return numbers.astype(np.int64)


def _checked_start(start, num_rows, count, evidence) -> np.ndarray:
    start = np.asarray(start, float)
    start = start[None] if start.ndim == 2 else start
    num_features = evidence.values.shape[1]
    if start.shape[0] not in (1, num_rows) or start.shape[1:] != (count, num_features):
        raise ValueError(f"start must have shape ({num_rows}, {count}, {num_features}), got {start.shape}")
    if not (np.abs(np.where(evidence.observed[:, None], 0.0, start)) < 1e38).all():
        raise ValueError("start must have a finite value in every missing column")
    return np.nan_to_num(start)


def _probe(model, num_draws=256):
    """Lowest and highest value of each column (2, d) in joint draws; whether the likelihood has a Fisher information.

    Columns of categories have NaN for a range.
    """
    z = tf.random.stateless_normal((num_draws, model.latent_dim), (0, 0))
    parameters, likelihood = model.decode(z), model.likelihood
    draws = likelihood.sample(parameters, tf.constant([0, 1])).numpy().astype(float)
    knows_fisher = True
    try:
        likelihood.fisher_root(parameters, parameters, tf.zeros(draws.shape))
    except NotImplementedError:
        knows_fisher = False
    draws[:, [not likelihood.kind(j).is_number for j in range(draws.shape[1])]] = np.nan
    return np.stack([draws.min(axis=0), draws.max(axis=0)]), knows_fisher
