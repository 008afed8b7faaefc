"""From class probabilities to label maps and files: argmax or CRF, back to the original size, PNGs.

No torch in here: it runs in CRF workers.
"""
import dataclasses
import pathlib

import numpy as np

from spml.errors import require_module
from spml.names import UNLABELLED
from spml.utils.formats import write_png
from spml.utils.maps import nearest_resize
from spml.visualization.palette import colourise

# Smaller probabilities count as this one.
CLIP = 1e-5


def _parameter(default, meaning):
    return dataclasses.field(default=default, metadata={'help': f'CRF: {meaning}'})


@dataclasses.dataclass(frozen=True)
class CrfParameters:
    """The parameters of DenseCRF, each with its help."""

    iter_max: int = _parameter(10, 'iterations of mean field')
    pos_xy_std: float = _parameter(1, 'standard deviation of the smoothness kernel, in pixels')
    pos_w: float = _parameter(3, 'weight of the smoothness kernel')
    bi_xy_std: float = _parameter(67, 'standard deviation of the appearance kernel, in pixels')
    bi_rgb_std: float = _parameter(3, 'standard deviation of the appearance kernel, in grey levels')
    bi_w: float = _parameter(4, 'weight of the appearance kernel')
    merge_below: float = _parameter(0, 'classes whose largest probability in an image stays below this are computed '
                                       'as one: 1e-5 gives the same but for rounding, more is an approximation')


def require_crf():
    """Raise an SpmlError that says what to install when pydensecrf is missing."""
    require_module('pydensecrf.densecrf',
                   'CRF needs pydensecrf: pip install pydensecrf2 (Python 3.10 to 3.12), or leave --crf out')


def crf_marginals(probability, image, parameters):
    """Return the (C, H, W) float32 marginals of CRF's mean field, which sum to 1 over the classes.

    The probability is (C, H, W) float, clipped to 1e-5..1 and never renormalised; the image (H, W, 3) uint8 RGB.

    Classes with equal unaries have equal marginals in every iteration: nothing in the mean field tells them apart. So n
    of them can be computed as one class with n times the probability, whose messages have 1/n of the weight, and its
    marginal be shared out evenly. All classes that stay below 1e-5 are such, since they are clipped; it takes about as
    long as there are classes left.
    """
    probability = np.asarray(probability, np.float32)
    largest = probability.max(axis=(1, 2))
    merged = largest < parameters.merge_below
    # The largest stays a class, so that there are two.
    merged[largest.argmax()] = False
    count = int(merged.sum())
    if count < 2:
        return _mean_field(probability, image, parameters, 1)
    group = np.clip(probability[merged], CLIP, 1)
    total = group.sum(axis=0)
    weights = np.ones(len(probability) - count + 1, np.float32)
    weights[-1] = 1 / count
    found = _mean_field(np.concatenate([probability[~merged], total[None]]), image, parameters, weights)
    marginals = np.empty_like(probability)
    marginals[~merged] = found[:-1]
    marginals[merged] = found[-1] * (group / total)
    return marginals


def _mean_field(probability, image, parameters, weights):
    """Return the marginals as above; `weights` of the classes' messages, 1 or (C,) float32."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    num_classes, height, width = probability.shape
    crf = DenseCRF2D(width, height, num_classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probability, clip=CLIP)))

    def compatibility(weight):
        # The library takes one weight as what unlike classes cost, an array as what like classes do.
        return weight if np.isscalar(weights) else np.float32(-weight) * weights

    crf.addPairwiseGaussian(sxy=parameters.pos_xy_std, compat=compatibility(parameters.pos_w))
    crf.addPairwiseBilateral(sxy=parameters.bi_xy_std, srgb=parameters.bi_rgb_std, rgbim=np.ascontiguousarray(image),
                             compat=compatibility(parameters.bi_w))
    return np.asarray(crf.inference(parameters.iter_max)).reshape(num_classes, height, width)


@dataclasses.dataclass
class Prediction:
    """Class probabilities of one image, ready for argmax or CRF."""

    probability: np.ndarray  # (C, h, w) float32
    image: np.ndarray | None  # (h, w, 3): float32 and normalised, or the uint8 RGB that CRF needs
    size: tuple  # (H, W) of the original image
    clusters: np.ndarray | None = None  # (h, w) int64
    unlabelled: np.ndarray | None = None  # (h, w) bool, pixels that get no class whatever the CRF says


def unlabelled(num_classes, size):
    """Return the Prediction of an image of which nothing is known but its `size`, (H, W)."""
    return Prediction(np.zeros((num_classes, 1, 1), np.float32), None, size, unlabelled=np.ones((1, 1), bool))


@dataclasses.dataclass(frozen=True)
class Finish:
    """How the label maps of a list are made of predictions.

    Pixels whose `confidence`, with CRF that of its marginals, is below the threshold are written as unlabelled (254);
    None labels all.
    """

    crf: object = None  # CrfParameters, or None for a plain argmax
    threshold: float | None = None
    color_map: list | None = None  # (C, 3) ints, the classes' colours (default: PASCAL VOC's)


def denormalise(image, pixel_means, pixel_stds):
    """Return the (H, W, 3) uint8 RGB of a normalised float32 image, truncated as the release does before CRF.

    Truncation turns rounding noise into whole grey levels, to which CRF is sensitive: each operation is carried out in
    float64 and stored as float32, so that the bytes are the release's.
    """
    pixels = np.array(image, np.float32)
    pixels *= np.asarray(pixel_stds, np.float64)
    pixels += np.asarray(pixel_means, np.float64)
    pixels *= 255
    return np.clip(pixels, 0, 255).astype(np.uint8)


def confidence(scores):
    """Return (h, w) float64 in 0..1: the largest of (C, h, w) scores >= 0 as a share of their sum over the classes.

    Walked scores are not probabilities, so they are divided. A pixel without any score has confidence 0.
    """
    total = scores.sum(axis=0, dtype=np.float64)
    return np.divide(scores.max(axis=0), total, out=np.zeros_like(total), where=total > 0)


def finish(prediction, how):
    """Return (H, W) uint8 labels at the original size, and the (C, h, w) scores whose largest they are."""
    scores = prediction.probability
    if how.crf is not None:
        scores = crf_marginals(scores, prediction.image, how.crf)
    label = scores.argmax(axis=0).astype(np.uint8)
    if prediction.unlabelled is not None:
        label[prediction.unlabelled] = UNLABELLED
    if how.threshold is not None:
        label[confidence(scores) < how.threshold] = UNLABELLED
    return nearest_resize(label, prediction.size), scores


def write_label_maps(prediction, how, known, name, save_dir):
    """Finish one image and write `semantic_gray/<name>.png`, `semantic_color/<name>.png` and, if known, its clusters.

    `known` is a (H, W) uint8 label map that is written wherever it is not UNLABELLED, or None. The name is returned for
    whoever waits in another process.
    """
    label, scores = finish(prediction, how)
    if known is not None:
        label = np.where(known == UNLABELLED, label, known)
    save_dir = pathlib.Path(save_dir)
    if prediction.clusters is not None:
        write_png(save_dir / 'semantic_cluster' / f'{name}.png',
                  nearest_resize(prediction.clusters, prediction.size).astype(np.uint16))
    write_png(save_dir / 'semantic_color' / f'{name}.png', colourise(label, len(scores), how.color_map))
    write_png(save_dir / 'semantic_gray' / f'{name}.png', label)
    return name
