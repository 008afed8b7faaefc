"""Scores of the same run under several seeds: mean, spread, and the table of them.

The spread is the sample standard deviation (n - 1): the seeds are a sample of all that could have been drawn.
"""
import math


def mean_and_spread(values):
    """Return the mean and the sample standard deviation of floats; the latter is nan for a single one."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def format_cell(values):
    """Return `mean ± spread` of fractions in per cent, `-` where there are none."""
    if not values:
        return '-'
    mean, spread = mean_and_spread(values)
    return f'{100 * mean:.1f}' + ('' if math.isnan(spread) else f' ± {100 * spread:.1f}')


def markdown_table(corner, columns, rows):
    """Return a Markdown table.

    Args:
        corner: header of the first column.
        columns: headers of the others.
        rows: pairs of a title and its cells, strings, one a column.
    """
    lines = [[corner, *columns], ['---'] * (1 + len(columns)), *([title, *cells] for title, cells in rows)]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
