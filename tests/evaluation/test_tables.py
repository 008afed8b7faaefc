import csv
import io

import numpy as np
import pytest

from spml.sweep.tables import mean_and_spread, plus_minus, to_csv, to_markdown


def test_mean_and_spread():
    values = np.random.default_rng().normal(size=7)
    assert mean_and_spread(values.tolist()) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert mean_and_spread([4]) == (4, None)
    assert mean_and_spread([]) == (None, None)


def test_how_they_are_shown():
    assert plus_minus(46.504, 1.2) == '46.50 ± 1.20'
    assert plus_minus(46.504, None, digits=1) == '46.5'
    assert plus_minus(None, None) == '-'


def test_csv_reads_back():
    rows = [['a,b', 1, 0.1], ['"c"\nd', None, 'x']]
    assert list(csv.reader(io.StringIO(to_csv(['x', 'y', 'z'], rows)))) == [
        ['x', 'y', 'z'], ['a,b', '1', '0.1'], ['"c"\nd', '', 'x']]


def test_markdown_has_a_cell_for_every_value():
    lines = to_markdown(['key', 'n'], [['a|b', 1], ['long value', 22]]).splitlines()
    assert [[cell.strip() for cell in line.replace(r'\|', '!').strip('|').split('|')] for line in lines] == [
        ['key', 'n'], ['------------', '-----'], ['a!b', '1'], ['long value', '22']]
    assert len({len(line) for line in lines}) == 1
