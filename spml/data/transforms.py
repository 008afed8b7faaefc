"""The training augmentations as pure functions on numpy arrays (METHOD.md, "Augmentation").

An image is (H, W, 3) float32 RGB in 0..1; `labels` is a sequence of (H, W) uint8 maps that move with it, and comes back
as a tuple. Whatever is random draws from the `numpy.random.Generator` passed in and from nothing else.
"""
import cv2
import numpy as np

from spml.names import VOID
from spml.utils.maps import nearest_resize

_SWAP_TABLE = np.arange(256, dtype=np.uint8)
_SWAP_TABLE[2:14] = _SWAP_TABLE[2:14].reshape(6, 2)[:, ::-1].ravel()  # 2 and 3, 4 and 5, ..., 12 and 13

GREY_WEIGHTS = (0.3, 0.59, 0.11)


def mirror(image, labels):
    """Flip image and labels left to right."""
    return image[:, ::-1], tuple(label[:, ::-1] for label in labels)


def swap_parts(semantic):
    """Exchange the left and right part classes of a DensePose label map (H, W) uint8, as a mirrored body needs."""
    return _SWAP_TABLE[semantic]


def resize(image, labels, size):
    """Resize to `size` = (height, width), image bilinearly (half-pixel centres, no antialiasing), labels by nearest.

    OpenCV's own nearest multiplies by a rounded in / out, and takes the row before where the quotient is whole.
    """
    scaled = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return scaled, tuple(nearest_resize(label, size) for label in labels)


def random_scale(image, labels, scale_range, rng):
    """Resize by a factor drawn uniformly from `scale_range`; both sides are truncated to ints and at least 1."""
    factor = rng.uniform(*scale_range)
    return resize(image, labels, tuple(max(1, int(side * factor)) for side in image.shape[:2]))


def pad_to(image, labels, size, pixel_means):
    """Pad on the right and bottom to at least `size` = (height, width): the image with its means, labels with 255."""
    below, beside = (max(0, wanted - side) for wanted, side in zip(size, image.shape, strict=False))
    if not below and not beside:
        return image, tuple(labels)
    padded = np.pad(image, ((0, below), (0, beside), (0, 0)))
    padded[image.shape[0]:] = padded[:, image.shape[1]:] = np.asarray(pixel_means, np.float32)
    return padded, tuple(np.pad(label, ((0, below), (0, beside)), constant_values=VOID) for label in labels)


def crop(image, labels, offset, size):
    """Cut out `size` = (height, width) from `offset` = (top, left) on."""
    window = tuple(slice(start, start + side) for start, side in zip(offset, size, strict=True))
    return image[window], tuple(label[window] for label in labels)


def random_crop(image, labels, size, rng):
    """Cut out `size` at floor(uniform(0, side - crop side)), vertical first; the image is at least that large."""
    offset = tuple(int(rng.uniform(0, side - wanted)) for side, wanted in zip(image.shape[:2], size, strict=True))
    return crop(image, labels, offset, size)


def to_grey(image):
    """Return the image (H, W, 3) with its luminance, 0.3 R + 0.59 G + 0.11 B, in all three channels."""
    grey = image @ np.asarray(GREY_WEIGHTS, np.float32)
    return np.repeat(grey[:, :, None], 3, axis=2)


def blur(image, sigma):
    """Convolve each channel with a 5x5 kernel proportional to exp(-(x^2 + y^2) / sigma^2), with sum 1.

    The border is reflected without repeating the edge. The exponent has no factor 1/2: that is the release's kernel.
    """
    squares = np.arange(-2, 3, dtype=np.float64) ** 2
    kernel = np.exp(-(squares[:, None] + squares) / sigma ** 2)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def normalise(image, pixel_means, pixel_stds):
    """Subtract the means and divide by the standard deviations, channel by channel."""
    return (image - np.asarray(pixel_means, np.float32)) / np.asarray(pixel_stds, np.float32)
