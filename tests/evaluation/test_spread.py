import math
import statistics

import numpy as np
import pytest

from spml.evaluation.spread import format_cell, markdown_table, mean_and_spread


def test_mean_and_sample_deviation():
    values = np.random.default_rng().random(5).tolist()
    mean, spread = mean_and_spread(values)
    assert mean == pytest.approx(statistics.mean(values))
    assert spread == pytest.approx(statistics.stdev(values))


def test_one_value_has_no_spread():
    mean, spread = mean_and_spread([0.25])
    assert mean == 0.25
    assert math.isnan(spread)


def test_cells_are_per_cent():
    assert format_cell([0.5, 0.6, 0.7]) == '60.0 ± 10.0'
    assert format_cell([0.1234]) == '12.3'
    assert format_cell([]) == '-'


def test_the_table_is_markdown():
    table = markdown_table('x', ['a', 'b'], [('one', ['1', '2']), ('two', ['3', '-'])])
    assert table.splitlines() == ['| x | a | b |', '| --- | --- | --- |', '| one | 1 | 2 |', '| two | 3 | - |']
