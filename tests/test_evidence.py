"""The evidence parser: every form it takes, every bad input it names, and what fuzzing finds."""

import datetime
import decimal
import fractions
import math
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cvae_tutorial.evidence import check_evidence, column_index, to_array
from cvae_tutorial.likelihoods import Bernoulli, Categorical, Columns, Normal

MIXED = Columns({"mass": Normal(), "alive": Bernoulli(), "sex": Categorical(("female", "male")), "depth": Normal()})
NAMES = MIXED.names
NAN = math.nan


def check(observed, mask=None, likelihood=MIXED, names=NAMES, num_features=4):
    return check_evidence(observed, num_features, likelihood, names, mask)


def normal(observed, mask=None, num_features=3, names=None):
    return check_evidence(observed, num_features, Normal(), names, mask)


# What is taken


def test_dict_by_name_and_index():
    evidence = check({"sex": "male", 0: 4.5, "alive": True})
    np.testing.assert_array_equal(evidence.values, [[4.5, 1.0, 1.0, NAN]])
    assert evidence.single and evidence.names == NAMES
    assert evidence.observed.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        0,
        False,
        np.float32(0),
        1e-300,
        0.1,
        1 / 3,
        decimal.Decimal("0.5"),
        fractions.Fraction(1, 4),
        np.array(2.0),
        np.int8(3),
    ],
)
def test_values_kept_to_the_bit(value):
    evidence = normal({1: value})
    assert evidence.observed.tolist() == [[False, True, False]]
    assert evidence.values[0, 1] == float(value)
    assert math.copysign(1, evidence.values[0, 1]) == math.copysign(1, float(value))


@pytest.mark.parametrize("hole", [None, NAN, np.nan, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT")])
def test_every_kind_of_hole(hole):
    evidence = check(np.array([[1.0, hole, "male", hole]], dtype=object))
    assert evidence.observed.tolist() == [[True, False, True, False]]


def test_rows_and_tables():
    row = normal([1.0, NAN, 0.0])
    assert row.single and row.observed.tolist() == [[True, False, True]]
    table = normal([[1.0, NAN, 0.0], [NAN, NAN, NAN]])
    assert not table.single and table.values.shape == (2, 3)
    assert not normal([[1.0, NAN, 0.0]]).single


def test_nothing_and_everything_observed():
    assert not check({}).observed.any()
    assert normal([1.0, 2.0, 3.0]).observed.all()


def test_mask_true_means_observed():
    row = normal([1.0, NAN, 0.0], mask=[False, False, True])
    assert row.observed.tolist() == [[False, False, True]]
    table = normal(np.ones((2, 3)), mask=[[True, False, True], [False] * 3])
    assert table.observed.tolist() == [[True, False, True], [False] * 3]
    shared = normal(np.ones((2, 3)), mask=[True, False, True])
    assert shared.observed.tolist() == [[True, False, True]] * 2


def test_masked_array_hides_what_it_masks():
    values = np.ma.masked_array([[1.0, 2.0, 3.0]], mask=[[True, False, False]])
    assert normal(values).observed.tolist() == [[False, True, True]]
    assert normal(np.ma.masked_equal([1.0, -9.0, 3.0], -9.0)).observed.tolist() == [[True, False, True]]


def test_frames_in_any_order():
    frame = pd.DataFrame({"depth": [0.0, NAN], "sex": ["male", None], "mass": [1.5, 2.5], "alive": [True, False]})
    evidence = check(frame)
    np.testing.assert_array_equal(evidence.values, [[1.5, 1, 1, 0.0], [2.5, 0, NAN, NAN]])
    np.testing.assert_array_equal(check(frame[["mass"]]).values[:, 0], [1.5, 2.5])
    assert not check(frame[["mass"]]).observed[:, 1:].any()
    series = frame.iloc[0]
    assert check(series).single
    np.testing.assert_array_equal(check(series).values, evidence.values[:1])


def test_mask_follows_the_columns_of_its_frame():
    frame = pd.DataFrame({"b": [2.0], "a": [1.0], "c": [3.0]})
    for mask in ([[True, False, False]], pd.DataFrame({"a": [False], "b": [True], "c": [False]})):
        assert normal(frame, mask=mask, names=("a", "b", "c")).observed.tolist() == [[False, True, False]]
    part = frame[["b", "a"]]
    assert normal(part, mask=[[True, False]], names=("a", "b", "c")).observed.tolist() == [[False, True, False]]


@pytest.mark.parametrize("names", [None, ("a", "b", "c")])
def test_frames_by_number(names):
    frame = pd.DataFrame([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(normal(frame[[2, 0, 1]], names=names).values, [[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(normal(frame[[2]], names=names).values, [[NAN, NAN, 3.0]])


def test_names_that_are_numbers_go_before_places():
    frame = pd.DataFrame([[1.0, 2.0]])
    np.testing.assert_array_equal(normal(frame, num_features=2, names=(1, 0)).values, [[2.0, 1.0]])
    np.testing.assert_array_equal(normal({0: 1.0}, num_features=2, names=(1, 0)).values, [[NAN, 1.0]])


def test_a_model_without_names_takes_a_frame_by_its_places():
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=list("cab"))
    np.testing.assert_array_equal(normal(frame).values, [[1.0, 2.0, 3.0]])


FRAME = pd.DataFrame({"b": [2.0, 5.0], "a": [1.0, 4.0]}, index=["p", "q"])
SEEN = pd.DataFrame({"a": [True, False], "b": [False, True]}, index=["q", "p"])  # a of q, b of p


def test_a_pandas_mask_goes_by_its_labels():
    found = [[False, True], [True, False]]
    for names in (("a", "b"), ("b", "a"), None):
        evidence = check_evidence(FRAME, 2, Normal(), names, SEEN)
        order = ["b", "a"] if names is None else list(names)
        assert evidence.observed.tolist() == SEEN.loc[FRAME.index, order].to_numpy().tolist()
    more = pd.concat([SEEN, pd.DataFrame({"a": [True], "b": [True]}, index=["r"])])  # a row that the table lacks
    assert check_evidence(FRAME, 2, Normal(), ("a", "b"), more).observed.tolist() == found
    one = pd.Series({"a": True, "b": False})
    assert check_evidence(FRAME, 2, Normal(), ("a", "b"), one).observed.tolist() == [[True, False]] * 2
    assert check_evidence(FRAME.loc["p"], 2, Normal(), ("a", "b"), one).observed.tolist() == [[True, False]]
    # An array stands in the model's order, whatever the order of its mask.
    array = check_evidence(FRAME[["a", "b"]].to_numpy(), 2, Normal(), ("a", "b"), SEEN[["b", "a"]])
    assert array.observed.tolist() == SEEN[["a", "b"]].to_numpy().tolist()


@pytest.mark.parametrize(
    "table, mask, names",
    [
        (FRAME, SEEN.to_numpy(), ("b", "a")),
        (FRAME.to_numpy(), pd.DataFrame(SEEN.to_numpy()), ("b", "a")),  # a mask without labels
        (FRAME.to_numpy(), SEEN, None),  # a model without names
        (FRAME, pd.DataFrame(SEEN.to_numpy()).set_axis(FRAME.index), ("b", "a")),
        (FRAME, SEEN.to_numpy().tolist(), ("b", "a")),
        (FRAME, SEEN.astype("boolean").to_numpy(), ("b", "a")),
    ],
)
def test_a_mask_without_labels_goes_by_its_places(table, mask, names):
    assert check_evidence(table, 2, Normal(), names, mask).observed.tolist() == SEEN.to_numpy().tolist()


@pytest.mark.parametrize(
    "mask",
    [
        SEEN[["a"]],
        SEEN.rename(columns={"a": "z"}),
        SEEN.iloc[:1],
        SEEN.set_axis(["p", "p"]),
        pd.Series({"a": True}),
    ],
)
def test_a_mask_with_other_labels_is_refused(mask):
    with pytest.raises(ValueError, match="mask has other labels.*to_numpy"):
        check_evidence(FRAME, 2, Normal(), ("a", "b"), mask)


def test_repeated_row_labels_are_no_hindrance():
    frame, mask = FRAME.set_axis([0, 0]), SEEN[["b", "a"]].set_axis([0, 0])
    assert check_evidence(frame, 2, Normal(), ("b", "a"), mask).observed.tolist() == mask.to_numpy().tolist()


def test_a_mask_cannot_see_what_a_masked_array_hides():
    values = np.ma.masked_array([[1.0, 2.0, 3.0]], mask=[[True, False, False]])
    with pytest.raises(ValueError, match="column 0: .* is not a value; the mask says observed in row 0"):
        normal(values, mask=[True, True, False])
    assert normal(values, mask=[False, True, False]).observed.tolist() == [[False, True, False]]


def test_text_arrays_cannot_say_what_is_missing():
    rows = [[1.5, 1, "male", 2.0], [NAN, 0, "female", 2.5], [2.5, 1, NAN, 3.0]]
    assert check(np.array(rows, object)).observed.sum() == 10
    text = np.array(rows, dtype=str)
    np.testing.assert_array_equal(check(text[:1]).values, [[1.5, 1, 1, 2.0]])
    for row, column in ((1, "mass"), (2, "sex")):
        with pytest.raises(ValueError, match=f"'{column}': .*'nan'.*array of text cannot say.*objects or a frame"):
            check(text[row])
    with pytest.raises(ValueError, match="'sex': category b'male' was never seen.*array of text"):
        check(np.array([b"1", b"1", b"male", b"2"]))


def test_whole_numbers_that_no_float_holds_stay_categories():
    likelihood = Columns([Categorical((2**60, 2**60 + 1)), Normal()])
    for table in (np.array([[2**60 + 1, 3]]), pd.DataFrame({0: [2**60 + 1]}), {0: 2**60 + 1}):
        assert check_evidence(table, 2, likelihood).values[0, 0] == 1


class Polars:
    """What is used of polars, where it is not installed."""

    class DataFrame:
        def __init__(self, data):
            self._data, self.columns = data, list(data)

        def to_dict(self, *, as_series=True):
            assert not as_series
            return {name: list(column) for name, column in self._data.items()}

    class Series:
        def __init__(self, values):
            self._values = values

        def to_list(self):
            return list(self._values)


def test_polars_needs_no_pyarrow(monkeypatch):
    try:
        import polars
    except ImportError:
        polars = Polars
        monkeypatch.setitem(sys.modules, "polars", polars)
    frame = polars.DataFrame({"depth": [0.0, NAN], "sex": ["male", None], "mass": [1, None], "alive": [True, False]})
    np.testing.assert_array_equal(check(frame).values, [[1, 1, 1, 0.0], [NAN, 0, NAN, NAN]])
    mask = polars.DataFrame({"mass": [True, False], "depth": [False] * 2, "sex": [True, False], "alive": [False, True]})
    np.testing.assert_array_equal(check(frame, mask).values, [[1, NAN, 1, NAN], [NAN, 0, NAN, NAN]])
    assert normal(polars.Series([1.0, None, 0.0])).observed.tolist() == [[True, False, True]]
    with pytest.raises(KeyError, match="unknown column 'weight'"):
        check(polars.DataFrame({"weight": [1.0]}))


def test_a_million_rows_of_numbers_take_no_time():
    rows = np.random.default_rng(0).normal(size=(1_000_000, 5))
    rows[rows > 1] = NAN
    began = time.process_time()
    evidence = normal(rows, num_features=5)
    assert time.process_time() - began < 1.0  # .15 s; cell by cell it would be 5 s
    np.testing.assert_array_equal(evidence.values, rows)


def test_nullable_and_categorical_dtypes():
    frame = pd.DataFrame(
        {
            "mass": pd.array([1, None], "Int64"),
            "alive": pd.array([True, None], "boolean"),
            "sex": pd.Categorical([None, "female"], categories=["female", "male"]),
            "depth": pd.array([None, 0.0], "Float64"),
        }
    )
    np.testing.assert_array_equal(check(frame).values, [[1, 1, NAN, NAN], [NAN, NAN, 0, 0]])


def test_to_array_is_the_same_parser():
    frame = pd.DataFrame({"sex": ["male"], "mass": [1.0], "alive": [0], "depth": [NAN]})
    np.testing.assert_array_equal(to_array(frame, 4, MIXED, NAMES), [[1.0, 0, 1, NAN]])


def test_column_index():
    assert column_index("sex", 4, NAMES) == 2 and column_index(np.int64(2), 4, NAMES) == 2
    assert column_index(1, 2, ("1", "0")) == 1 and column_index("1", 2, ("1", "0")) == 0


# What is refused, with the column and the remedy


@pytest.mark.parametrize(
    "observed, mask, error, says",
    [
        ({"height": 1.0}, None, KeyError, "unknown column 'height'.*mass"),
        ({4: 1.0}, None, KeyError, "unknown column 4.*0 to 3"),
        ({-1: 1.0}, None, KeyError, "unknown column -1"),
        ({True: 1.0}, None, KeyError, "unknown column True"),
        ({0.0: 1.0}, None, KeyError, "unknown column 0.0"),
        ({"mass": 1.0, 0: 1.0}, None, ValueError, "'mass' is given twice, as 'mass' and as 0"),
        ({"mass": NAN}, None, ValueError, "'mass'.*leave the column out"),
        ({"mass": None}, None, ValueError, "'mass'.*leave the column out"),
        ({"mass": pd.NA}, None, ValueError, "'mass'.*leave the column out"),
        ({"mass": "nan"}, None, ValueError, "'mass'.*'nan'"),
        ({"mass": math.inf}, None, ValueError, "'mass'.*infinite.*NaN"),
        ({"mass": -math.inf}, None, ValueError, "'mass'.*infinite"),
        ({"mass": 10**400}, None, ValueError, "'mass'"),
        ({"mass": "heavy"}, None, ValueError, "'mass'.*'heavy' is not a number"),
        ({"mass": 1j}, None, ValueError, "'mass'.*is not a number"),
        ({"mass": datetime.date(2020, 1, 1)}, None, ValueError, "'mass'.*is not a number"),
        ({"mass": [1.0, 2.0]}, None, ValueError, "'mass'.*one value.*table"),
        ({"mass": [[1.0], [1.0, 2.0]]}, None, ValueError, "'mass'.*one value"),
        ({"alive": 2}, None, ValueError, "'alive': Bernoulli values are 0 and 1, got 2"),
        ({"alive": 0.5}, None, ValueError, "'alive': Bernoulli values are 0 and 1, got 0.5"),
        ({"sex": "unknown"}, None, ValueError, "'sex'.*'unknown' was never seen.*female"),
        ({"sex": 1}, None, ValueError, "'sex'.*never seen"),
        ({"sex": {"a": 1}}, None, ValueError, "'sex'"),
        ({"mass": 1.0}, [True] * 4, TypeError, "a mask goes with an array"),
        ([1.0, 1, "male"], None, ValueError, "3 columns given, the model has 4.*NaN"),
        ([1.0, 1, "male", 2.0, 3.0], None, ValueError, "5 columns given"),
        ([[1.0, 1, "male", 2.0], [1.0]], None, ValueError, "different lengths.*NaN"),
        (np.zeros((0, 4)), None, ValueError, "no rows"),
        (np.zeros((2, 2, 4)), None, ValueError, "3 axes"),
        (3.0, None, ValueError, "0 axes"),
        (None, None, ValueError, "0 axes"),
        (np.ones(4) * 1j, None, TypeError, "complex"),
        (np.array(["2020-01-01"] * 4, "datetime64[ns]"), None, TypeError, "dates"),
        ([1.0, 1, "male", 2.0], [1, 0, 1, 1], TypeError, "mask must be boolean.*observed"),
        ([1.0, 1, "male", 2.0], [True] * 3, ValueError, "mask has shape"),
        ([NAN, 1, "male", 2.0], [True] * 4, ValueError, "'mass'.*mask says observed"),
        (pd.DataFrame([[1, 2]], columns=["mass", "mass"]), None, ValueError, "'mass' is given twice"),
        (pd.DataFrame([[1, 2]], columns=["mass", 0]), None, ValueError, "'mass' is given twice, as 'mass' and as 0"),
        (pd.DataFrame([[1, 2]], columns=["mass", True]), None, KeyError, "unknown column True"),
        ([decimal.Decimal("sNaN"), 1, "male", 2.0], None, ValueError, "signalling NaN.*use NaN"),
        (pd.DataFrame({"weight": [1.0]}), None, KeyError, "unknown column 'weight'.*mass"),
        (pd.Series({"weight": 1.0}), None, KeyError, "unknown column 'weight'"),
        (np.array([1.0, 1, "male", np.zeros(2)], dtype=object), None, ValueError, "'depth'"),
    ],
    ids=lambda a: None,
)
def test_bad_input_names_column_and_remedy(observed, mask, error, says):
    with pytest.raises(error, match=says):
        check(observed, mask)


def test_columns_without_names_are_numbered():
    with pytest.raises(ValueError, match="column 2: infinite"):
        normal([[0.0, 0.0, 0.0], [0.0, 0.0, math.inf]])
    with pytest.raises(KeyError, match="unknown column 'a'.*0 to 2"):
        normal({"a": 1.0})
    with pytest.raises(KeyError, match="unknown column 3.*0 to 2"):
        normal(pd.DataFrame({0: [1.0], 3: [1.0]}))


# Fuzzing: a valid Evidence or an error that says something, and never another exception

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 6),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.binary(max_size=3),
    st.sampled_from(["male", "female", "mass", "nan", "inf", "1.0"]),
    st.sampled_from([pd.NA, pd.NaT, np.datetime64("NaT"), np.timedelta64(3, "s"), 0.0, 1.0, 10**400, np.float32(2)]),
    st.dates(),
    st.decimals(),
    st.fractions(),
)
ARRAYS = npst.arrays(
    st.sampled_from(["f8", "f4", "i4", "u1", "?", "c8", "U3", "M8[ns]", "m8[s]", "O"]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    fill=st.nothing(),
)
NESTED = st.recursive(
    st.one_of(SCALARS, ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner, inner),
        st.dictionaries(
            st.one_of(st.sampled_from(NAMES), st.integers(-1, 5), st.text(max_size=2), st.booleans()), inner, max_size=4
        ),
    ),
    max_leaves=12,
)
CELLS = st.lists(st.lists(SCALARS, min_size=4, max_size=4), min_size=1, max_size=3)
FRAMES = CELLS.map(lambda rows: pd.DataFrame(rows, columns=["depth", "mass", "alive", "sex"], dtype=object))
GOOD = st.tuples(
    st.floats(allow_infinity=False),
    st.sampled_from([0, 1, True, 0.0, NAN, None]),
    st.sampled_from(["male", "female", None]),
    st.floats(allow_infinity=False),
).map(list)
MASKS = st.one_of(st.none(), st.just([True] * 4), st.lists(st.booleans(), max_size=5), ARRAYS, SCALARS)


def is_valid(evidence):
    n, d = evidence.values.shape
    assert d == 4 and n >= 1 and evidence.observed.shape == (n, d)
    assert evidence.values.dtype == float and evidence.observed.dtype == bool
    assert np.isfinite(evidence.values[evidence.observed]).all()
    assert np.isnan(evidence.values[~evidence.observed]).all()
    assert np.isin(evidence.values[:, 1:3][evidence.observed[:, 1:3]], (0, 1)).all()


@settings(max_examples=400)
@given(observed=st.one_of(NESTED, CELLS, FRAMES), mask=MASKS)
def test_fuzz(observed, mask):
    try:
        evidence = check(observed, mask)
    except (ValueError, TypeError, KeyError) as error:
        assert len(str(error)) > 15, "the error says nothing"
        # Raised here, with words of ours; anything from NumPy or pandas would be an accident.
        traceback = error.__traceback__
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        assert traceback.tb_frame.f_code.co_filename.endswith("evidence.py")
        assert "raise" in _source_line(traceback)
    else:
        is_valid(evidence)


@given(rows=st.lists(GOOD, min_size=1, max_size=4))
def test_fuzz_good_rows_are_kept(rows):
    evidence = check(rows)
    is_valid(evidence)
    for i, row in enumerate(rows):
        for j in (0, 3):
            same = evidence.values[i, j] == row[j]
            assert same or (math.isnan(row[j]) and not evidence.observed[i, j])
    frame = pd.DataFrame(rows, columns=NAMES).astype(object)[["sex", "depth", "mass", "alive"]]
    np.testing.assert_array_equal(check(frame).values, evidence.values)


def _source_line(traceback):
    import linecache

    path = traceback.tb_frame.f_code.co_filename
    start = traceback.tb_lineno
    positions = list(traceback.tb_frame.f_code.co_positions())[traceback.tb_lasti // 2]
    return "".join(linecache.getline(path, line) for line in range(positions[0] or start, (positions[1] or start) + 1))
