"""How much, and in which direction, colour and texture change at each pixel: contours without a contour detector.

As in Pb (Martin, Fowlkes, Malik, PAMI 2004), what lies on one side of a pixel is compared with what lies on the other,
by histograms of colour and of textons, the kinds of local pattern that occur in the image. A histogram here is a set of
smoothed planes, one a bin; the roots of two histograms differ by Hellinger's distance, and the products of the planes'
slopes, summed over all planes (Di Zenzo's tensor of an image with many channels), hold the change in every direction at
once. Plain smoothed colour is added, which tells strong edges from weak ones where histograms have nothing in common.
"""
import cv2
import numpy as np

_BINS = 12  # of each channel of Lab
_RANGES = ((0, 100), (-60, 60), (-60, 60))  # that the bins of L, a and b span
_COLOUR_SCALES = (2, 4)  # pixels: deviation of the smoothing, and distance to either side
_LAB_UNIT = 30.0  # a step of so much in plain colour counts as much as a complete change of a histogram

_TEXTONS = 32
_TEXTURE_SCALES = (4, 8)
_FILTER_SIGMAS = (1.0, 2.0)
_FILTER_ANGLES = 4
_SAMPLE = 4000  # pixels, about, that the textons are found from

_TENSOR_SIGMA = 0.7  # pixels


def change_tensor(image):
    """Return the tensor `[yy, xy, xx]` (3, H, W) float32 of change in an (H, W, 3) uint8 RGB image.

    As a quadratic form it gives for a unit vector the mean squared change along it: of the histograms of L, a and b, of
    plain colour, and of the histogram of textons, at two scales each. 1 is a complete change of every histogram with
    steps of 30 in L, a and b; stark colours exceed it.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    tensor = np.zeros((3, *lab.shape[:2]), np.float32)
    channels = [np.ascontiguousarray(lab[..., index]) for index in range(3)]
    for scale in _COLOUR_SCALES:
        for channel, limits in zip(channels, _RANGES, strict=True):
            _add_change(tensor, _smooth(channel, scale) / _LAB_UNIT, scale, 1)
            for plane in _bins(channel, *limits):
                # Two complete histograms without a common bin differ by 2; there are three.
                _add_change(tensor, np.sqrt(_smooth(plane, scale)), scale, 1 / 6)
    textons = list(_texton_planes(channels[0]))
    for scale in _TEXTURE_SCALES:
        for plane in textons:
            _add_change(tensor, np.sqrt(_smooth(plane, scale)), scale, 1 / 2)
    tensor /= 2 * len(_COLOUR_SCALES) + len(_TEXTURE_SCALES)
    return np.stack([_smooth(part, _TENSOR_SIGMA) for part in tensor])


def _smooth(plane, sigma):
    return cv2.GaussianBlur(plane, (0, 0), sigma)


def _add_change(tensor, plane, distance, weight):
    """Add to the tensor, in place, the products of a plane's differences over twice `distance` along y and x."""
    padded = cv2.copyMakeBorder(plane, *[distance] * 4, cv2.BORDER_REPLICATE)
    middle, before, after = slice(distance, -distance), slice(None, -2 * distance), slice(2 * distance, None)
    y, x = padded[after, middle] - padded[before, middle], padded[middle, after] - padded[middle, before]
    for part, (one, other) in zip(tensor, ((y, y), (y, x), (x, x)), strict=True):
        part += weight * one * other


def _bins(channel, low, high):
    """Yield the planes (H, W) float32 of a soft histogram: a pixel is shared out between its two nearest bins."""
    position = (np.clip(channel, low, high) - low) * np.float32((_BINS - 1) / (high - low))
    for index in range(_BINS):
        yield np.maximum(1 - np.abs(position - index), 0)


def _texton_planes(lightness):
    """Yield for each texton the plane (H, W) float32 that is 1 where the local pattern is nearest to it, else 0."""
    responses = _filter_responses(lightness)
    pixels = responses.reshape(-1, responses.shape[2])
    textons = _textons(pixels[::max(1, len(pixels) // _SAMPLE)])
    nearest = np.argmin((textons * textons).sum(1) - 2 * pixels @ textons.T, axis=1).reshape(lightness.shape)
    for index in range(len(textons)):
        yield (nearest == index).astype(np.float32)


def _textons(sample):
    """Return the centres (K, F) of k-means over a sample (N, F) of filter responses, begun at levels of energy."""
    if len(sample) == 1:
        return sample
    count = min(_TEXTONS, len(sample))
    labels = np.empty((len(sample), 1), np.int32)
    labels[np.argsort(np.abs(sample).sum(1), kind='stable'), 0] = np.arange(len(sample)) * count // len(sample)
    return cv2.kmeans(sample, count, labels, (cv2.TERM_CRITERIA_MAX_ITER, 10, 0), 1, cv2.KMEANS_USE_INITIAL_LABELS)[2]


def _filter_responses(lightness):
    """Return (H, W, F) float32: slopes, without their sign, and curvatures at each scale and angle, in like units."""
    responses = []
    for sigma in _FILTER_SIGMAS:
        smooth = _smooth(lightness, sigma)
        x, y, xx, xy, yy = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=sigma ** sum(order) / 2 ** (4 - sum(order)))
                            for order in ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2)))
        for angle in np.arange(_FILTER_ANGLES, dtype=np.float32) * np.float32(np.pi / _FILTER_ANGLES):
            cosine, sine = np.cos(angle), np.sin(angle)
            responses += [np.abs(cosine * x + sine * y),
                          cosine * cosine * xx + 2 * cosine * sine * xy + sine * sine * yy]
    return np.dstack(responses)
