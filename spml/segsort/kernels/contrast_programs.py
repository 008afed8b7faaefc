"""The Triton kernels behind `contrast.py`, which says how they work together.

Rows of a program and their columns are pixels or segments, the other way round in half of the backward. Both come with
their parts (three bfloat16 that add up to a vector, channels padded to W), their codes for one or two relations, and
where their groups start; N pixels, S segments, R relations. Sizes that change from step to step are not compiled in.
"""
import triton
import triton.language as tl

from spml.segsort.kernels.products import cut, load, product, store, transposed


@triton.jit
def _store_cut(parts, num_rows, values, rows, valid, START: tl.constexpr, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    cuts = cut(values)
    for part in tl.static_range(3):
        store(parts + tl.cast(num_rows, tl.int64) * (part * WIDTH), cuts[part], rows, valid, WIDTH, START, COUNT)


@triton.jit(do_not_specialize=['num_rows'])
def store_parts(vectors, parts, square, num_rows, ROWS: tl.constexpr, CHANNELS: tl.constexpr, FIRST: tl.constexpr,
                REST: tl.constexpr):
    """Store the parts of vectors, and in `square` the bits of the largest squared length, which order as it does."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = rows < num_rows
    values = load(vectors, rows, valid, CHANNELS, 0, FIRST)
    squares = tl.sum(values * values, axis=1)
    _store_cut(parts, num_rows, values, rows, valid, 0, FIRST, FIRST + REST)
    if REST > 0:
        values = load(vectors, rows, valid, CHANNELS, FIRST, REST)
        squares += tl.sum(values * values, axis=1)
        _store_cut(parts, num_rows, values, rows, valid, FIRST, REST, FIRST + REST)
    # What is not a number is to be found, too: it counts as infinite.
    largest = tl.max(tl.where(squares == squares, squares, float('inf')), axis=0)
    tl.atomic_max(square, largest.to(tl.int32, bitcast=True).to(tl.int64))


@triton.jit
def _load_parts(parts, num_rows, rows, valid, START: tl.constexpr, COUNT: tl.constexpr, WIDTH: tl.constexpr):
    pointers = parts + rows.to(tl.int64)[:, None] * WIDTH + (START + tl.arange(0, COUNT))[None, :]
    step = tl.cast(num_rows, tl.int64) * WIDTH
    known = valid[:, None]
    return (tl.load(pointers, mask=known, other=0.0), tl.load(pointers + step, mask=known, other=0.0),
            tl.load(pointers + 2 * step, mask=known, other=0.0))


@triton.jit(do_not_specialize=['num_pixels', 'num_segments'])
def look_at_groups(group, own, pixel_group, facts, num_pixels, num_segments, COUNT: tl.constexpr):
    """Store the group of each pixel, whether pixels and segments are mixed, and by how much the last differs."""
    numbers = tl.program_id(0) * COUNT + tl.arange(0, COUNT)
    valid = numbers < num_pixels
    ids = tl.load(group + tl.load(own + numbers, mask=valid, other=0), mask=valid, other=0)
    tl.store(pixel_group + numbers, ids, mask=valid)
    has_before = valid & (numbers > 0)
    before = tl.load(group + tl.load(own + numbers - 1, mask=has_before, other=0), mask=has_before, other=0)
    mixed = tl.sum((has_before & (before > ids)).to(tl.int64), axis=0)
    tl.atomic_max(facts + 2, mixed, mask=mixed > 0)
    valid = numbers < num_segments
    ids = tl.load(group + numbers, mask=valid, other=0)
    has_before = valid & (numbers > 0)
    mixed = tl.sum((has_before & (tl.load(group + numbers - 1, mask=has_before, other=0) > ids)).to(tl.int64), axis=0)
    tl.atomic_max(facts + 3, mixed, mask=mixed > 0)
    if tl.program_id(0) == 0:
        tl.store(facts + 4, tl.load(group + num_segments - 1) - tl.load(group))


@triton.jit
def _block(row_starts, num_rows, column_starts, num_columns, num_groups, GROUPED: tl.constexpr, ROWS: tl.constexpr,
           COLUMNS: tl.constexpr):
    """Return first and last row of this program, first and last column, and the weight of a pixel if rows are pixels.

    Blocks are at least as many as groups need; those left over have no rows.
    """
    number = tl.program_id(0)
    first_row, stop_row, first_column, stop_column, weight = number * ROWS, num_rows, 0, num_columns, 1.0
    if GROUPED:
        first_row, stop_row, stop_column = 0, 0, 0
        before, count, present = 0, 1, 0
        for group in range(num_groups):
            start, stop = tl.load(row_starts + group).to(tl.int32), tl.load(row_starts + group + 1).to(tl.int32)
            blocks = tl.cdiv(stop - start, ROWS)
            if (number >= before) & (number < before + blocks):
                first_row, stop_row, count = start + (number - before) * ROWS, stop, stop - start
                first_column = tl.load(column_starts + group).to(tl.int32)
                stop_column = tl.load(column_starts + group + 1).to(tl.int32)
            before += blocks
            present += tl.minimum(blocks, 1)
        weight = 1.0 / (1.0 * count * present)
    tiles = tl.cdiv(stop_column - first_column, COLUMNS * tl.num_programs(1))
    first_column += tl.program_id(1) * tiles * COLUMNS
    return first_row, stop_row, first_column, tl.minimum(first_column + tiles * COLUMNS, stop_column), weight


@triton.jit(do_not_specialize=['num_pixels'])
def multiply_own(vectors, targets, own, itself, num_pixels, scale_0, scale_1, MODE_0: tl.constexpr,
                 MODE_1: tl.constexpr, CHANNELS: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr,
                 ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Store (R, N) exponentials of the pixels with their own segments."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = rows < num_pixels
    segments = tl.load(own + rows, mask=valid, other=0)
    vector, target = load(vectors, rows, valid, CHANNELS, 0, FIRST), load(targets, segments, valid, CHANNELS, 0, FIRST)
    products = tl.sum(vector * target, axis=1)
    if REST > 0:
        vector = load(vectors, rows, valid, CHANNELS, FIRST, REST)
        products += tl.sum(vector * load(targets, segments, valid, CHANNELS, FIRST, REST), axis=1)
    tl.store(itself + rows, tl.exp2(products * scale_0), mask=valid)
    if MODE_1 >= 0:
        tl.store(itself + num_pixels + rows, tl.exp2(products * scale_1), mask=valid)


@triton.jit
def _meets(one, other, MODE: tl.constexpr):
    return (one & other) != 0 if MODE == 0 else one == other


@triton.jit
def _add_up(products, scale, row_codes, codes, inside, is_own, positive, negative, MODE: tl.constexpr):
    takes_part = inside
    if MODE == 2:
        takes_part = inside & (codes >= 0)
    exponentials = tl.where(takes_part[None, :], tl.exp2(products * scale), 0.0)
    meets = _meets(row_codes[:, None], codes[None, :], MODE)
    positive += tl.sum(tl.where(meets & ~is_own, exponentials, 0.0), axis=1)
    negative += tl.sum(tl.where(meets, 0.0, exponentials), axis=1)
    return positive, negative


@triton.jit
def _store_results(positive, negative, scale, codes, weights, itself, losses, factors, num_pixels, rows, valid,
                   MODE: tl.constexpr):
    """Store the sum of the losses, and what exponentials become derivatives by products by.

    The latter are (3, N): for positives, for negatives and for the own segment. It is the numerator where no other is
    positive; one that shares no bit with itself is a negative as well.
    """
    own = tl.load(itself + rows, mask=valid, other=1.0)
    numerator = tl.where(positive > 0, positive, own)
    quotient = negative / numerator
    # log(1 + quotient), exact for small ones, too.
    one_more = 1.0 + quotient
    loss = tl.where(one_more == 1.0, quotient, tl.log(one_more) * (quotient / tl.where(one_more == 1.0, 1.0,
                                                                                       one_more - 1.0)))
    tl.store(losses + tl.program_id(0), tl.sum(tl.where(valid, loss * weights, 0.0), axis=0))
    # log(2) turns units of log 2 into kappa.
    of_negative = weights * (scale * 0.6931471805599453) / (numerator + negative)
    of_positive = -of_negative * quotient
    as_numerator = of_positive
    if MODE == 0:
        as_numerator = tl.where(codes == 0, of_positive + of_negative, of_positive)
    tl.store(factors + rows, of_positive, mask=valid)
    tl.store(factors + num_pixels + rows, of_negative, mask=valid)
    tl.store(factors + 2 * num_pixels + rows, tl.where(positive > 0, 0.0, as_numerator), mask=valid)


@triton.jit(do_not_specialize=['num_rows', 'num_columns', 'num_groups'])
def sum_up(row_parts, row_codes, row_starts, num_rows, column_parts, column_codes, column_starts, num_columns,
           num_groups, own, weights, itself, losses, factors, scale_0, scale_1, GROUPED: tl.constexpr,
           MODE_0: tl.constexpr, MODE_1: tl.constexpr, CHANNELS: tl.constexpr, FIRST: tl.constexpr,
           REST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sum up the exponentials of the positives and of the negatives of a block of pixels."""
    first_row, stop_row, start, stop, weight = _block(row_starts, num_rows, column_starts, num_columns, num_groups,
                                                      GROUPED, ROWS, COLUMNS)
    rows = first_row + tl.arange(0, ROWS)
    valid = rows < stop_row
    row_own = tl.load(own + rows, mask=valid, other=-1)
    row_first = _load_parts(row_parts, num_rows, rows, valid, 0, FIRST, FIRST + REST)
    row_rest = row_first
    if REST > 0:
        row_rest = _load_parts(row_parts, num_rows, rows, valid, FIRST, REST, FIRST + REST)
    codes_0 = tl.load(row_codes + rows, mask=valid, other=0)
    codes_1 = codes_0
    if MODE_1 >= 0:
        codes_1 = tl.load(row_codes + num_rows + rows, mask=valid, other=0)
    positive_0 = tl.zeros([ROWS], tl.float32)
    negative_0 = tl.zeros([ROWS], tl.float32)
    positive_1 = tl.zeros([ROWS], tl.float32)
    negative_1 = tl.zeros([ROWS], tl.float32)
    for column in range(start, stop, COLUMNS):
        columns = column + tl.arange(0, COLUMNS)
        inside = columns < stop
        products = tl.zeros([ROWS, COLUMNS], tl.float32)
        column_first = _load_parts(column_parts, num_columns, columns, inside, 0, FIRST, FIRST + REST)
        if REST > 0:
            column_rest = _load_parts(column_parts, num_columns, columns, inside, FIRST, REST, FIRST + REST)
            products = product(row_rest, transposed(column_rest), products)
        products = product(row_first, transposed(column_first), products)
        is_own = row_own[:, None] == columns[None, :]
        others_0 = tl.load(column_codes + columns, mask=inside, other=0)
        positive_0, negative_0 = _add_up(products, scale_0, codes_0, others_0, inside, is_own, positive_0, negative_0,
                                         MODE_0)
        if MODE_1 >= 0:
            others_1 = tl.load(column_codes + num_columns + columns, mask=inside, other=0)
            positive_1, negative_1 = _add_up(products, scale_1, codes_1, others_1, inside, is_own, positive_1,
                                             negative_1, MODE_1)
    weights_0 = weight + tl.zeros([ROWS], tl.float32)
    weights_1 = weights_0
    if not GROUPED:
        weights_0 = tl.load(weights + rows, mask=valid, other=0.0)
    _store_results(positive_0, negative_0, scale_0, codes_0, weights_0, itself, losses, factors, num_rows, rows, valid,
                   MODE_0)
    if MODE_1 >= 0:
        if not GROUPED:
            weights_1 = tl.load(weights + num_rows + rows, mask=valid, other=0.0)
        _store_results(positive_1, negative_1, scale_1, codes_1, weights_1, itself + num_rows,
                       losses + tl.num_programs(0), factors + 3 * num_rows, num_rows, rows, valid, MODE_1)


@triton.jit
def _derivatives(products, scale, grad, row_codes, column_codes, segment_codes, is_own, factors, size, pixels, known,
                 MODE: tl.constexpr):
    """Return the derivatives by the products, times `grad`."""
    of_positive = tl.load(factors + pixels, mask=known, other=0.0)
    of_negative = tl.load(factors + size + pixels, mask=known, other=0.0)
    of_own = tl.load(factors + 2 * size + pixels, mask=known, other=0.0)
    factor = tl.where(_meets(row_codes[:, None], column_codes[None, :], MODE), of_positive, of_negative)
    if MODE == 2:
        factor = tl.where(segment_codes >= 0, factor, 0.0)
    return tl.exp2(products * scale) * (tl.where(is_own, of_own, factor) * grad)


@triton.jit(do_not_specialize=['num_rows', 'num_columns', 'num_groups'])
def multiply(row_parts, row_codes, row_starts, num_rows, column_parts, column_codes, column_starts, num_columns,
             num_groups, own, factors, grads, result, scale_0, scale_1, GROUPED: tl.constexpr,
             ROWS_ARE_PIXELS: tl.constexpr, MODE_0: tl.constexpr, MODE_1: tl.constexpr, CHANNELS: tl.constexpr,
             FIRST: tl.constexpr, REST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Store the derivatives by the products times the columns' vectors, of some rows and some of their columns."""
    first_row, stop_row, start, stop, _ = _block(row_starts, num_rows, column_starts, num_columns, num_groups, GROUPED,
                                                 ROWS, COLUMNS)
    rows = first_row + tl.arange(0, ROWS)
    valid = rows < stop_row
    row_first = _load_parts(row_parts, num_rows, rows, valid, 0, FIRST, FIRST + REST)
    row_rest = row_first
    sum_first = tl.zeros([ROWS, FIRST], tl.float32)
    sum_rest = sum_first
    if REST > 0:
        row_rest = _load_parts(row_parts, num_rows, rows, valid, FIRST, REST, FIRST + REST)
        sum_rest = tl.zeros([ROWS, REST], tl.float32)
    codes_0 = tl.load(row_codes + rows, mask=valid, other=0)
    codes_1 = codes_0
    grad_0 = tl.load(grads)
    grad_1 = grad_0
    if MODE_1 >= 0:
        codes_1 = tl.load(row_codes + num_rows + rows, mask=valid, other=0)
        grad_1 = tl.load(grads + 1)
    for column in range(start, stop, COLUMNS):
        columns = column + tl.arange(0, COLUMNS)
        inside = columns < stop
        products = tl.zeros([ROWS, COLUMNS], tl.float32)
        column_first = _load_parts(column_parts, num_columns, columns, inside, 0, FIRST, FIRST + REST)
        column_rest = column_first
        if REST > 0:
            column_rest = _load_parts(column_parts, num_columns, columns, inside, FIRST, REST, FIRST + REST)
            products = product(row_rest, transposed(column_rest), products)
        products = product(row_first, transposed(column_first), products)
        others_0 = tl.load(column_codes + columns, mask=inside, other=0)
        others_1 = others_0
        if MODE_1 >= 0:
            others_1 = tl.load(column_codes + num_columns + columns, mask=inside, other=0)
        if ROWS_ARE_PIXELS:
            size, pixels, known = num_rows, rows[:, None], valid[:, None]
            is_own = tl.load(own + pixels, mask=known, other=-1) == columns[None, :]
            segments_0, segments_1 = others_0[None, :], others_1[None, :]
        else:
            size, pixels, known = num_columns, columns[None, :], inside[None, :]
            is_own = tl.load(own + pixels, mask=known, other=-1) == rows[:, None]
            segments_0, segments_1 = codes_0[:, None], codes_1[:, None]
        derivatives = _derivatives(products, scale_0, grad_0, codes_0, others_0, segments_0, is_own, factors, size,
                                   pixels, known, MODE_0)
        if MODE_1 >= 0:
            derivatives += _derivatives(products, scale_1, grad_1, codes_1, others_1, segments_1, is_own,
                                        factors + 3 * size, size, pixels, known, MODE_1)
        parts = cut(tl.where(inside[None, :], derivatives, 0.0))
        sum_first = product(parts, column_first, sum_first)
        if REST > 0:
            sum_rest = product(parts, column_rest, sum_rest)
    result += tl.program_id(1).to(tl.int64) * num_rows * CHANNELS
    store(result, sum_first, rows, valid, CHANNELS, 0, FIRST)
    if REST > 0:
        store(result, sum_rest, rows, valid, CHANNELS, FIRST, REST)
