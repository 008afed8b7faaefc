"""What the Triton kernels share: products of float32 matrices on tensor cores, which multiply no float32.

A float32 is cut into three bfloat16 that hold its 24 bits. Of the nine products of such parts the six that reach
float32 are added up, the small ones first; that is as exact as a product of float32 and several times as fast.
"""
import triton
import triton.language as tl


def tiles(count: int) -> tuple[int, int]:
    """Cut a number up to 256 into two powers of two, the second perhaps 0: 66 are 64 and 16 rather than 128."""
    first = max(16, 1 << (count.bit_length() - 1))
    return first, max(16, 1 << (count - first - 1).bit_length()) if count > first else 0


@triton.jit
def cut(values):
    """Return three bfloat16 that add up to a float32, the largest first."""
    high = values.to(tl.bfloat16)
    values -= high.to(tl.float32)
    middle = values.to(tl.bfloat16)
    return high, middle, (values - middle.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def load(matrix, rows, valid, CHANNELS: tl.constexpr, START: tl.constexpr, COUNT: tl.constexpr):
    """Load so many channels of rows of a (rows, CHANNELS) matrix as float32; 0 where there are none."""
    channels = (START + tl.arange(0, COUNT))[None, :]
    return tl.load(matrix + rows.to(tl.int64)[:, None] * CHANNELS + channels,
                   mask=valid[:, None] & (channels < CHANNELS), other=0.0).to(tl.float32)


@triton.jit
def store(matrix, values, rows, valid, CHANNELS: tl.constexpr, START: tl.constexpr, COUNT: tl.constexpr):
    """Store what `load` loads."""
    channels = (START + tl.arange(0, COUNT))[None, :]
    tl.store(matrix + rows.to(tl.int64)[:, None] * CHANNELS + channels, values,
             mask=valid[:, None] & (channels < CHANNELS))


@triton.jit
def transposed(parts):
    """Transpose each of three parts."""
    return tl.trans(parts[0]), tl.trans(parts[1]), tl.trans(parts[2])


@triton.jit
def product(one, other, total):
    """Add the product of two matrices, in three parts each, to a float32 matrix."""
    total = tl.dot(one[2], other[0], total)
    total = tl.dot(one[0], other[2], total)
    total = tl.dot(one[1], other[1], total)
    total = tl.dot(one[1], other[0], total)
    total = tl.dot(one[0], other[1], total)
    return tl.dot(one[0], other[0], total)
