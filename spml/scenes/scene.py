"""Scenes of the built-in data set: textured shapes that occlude each other on a cluttered background.

A class is a texture and a shape; colour, lighting, pose and size are drawn per object and say next to nothing about
the class, so that a model has to learn the textures. The textures survive mirroring, because training mirrors.
"""
from typing import NamedTuple

import cv2
import numpy as np

from spml.names import VOID

TEXTURES = ('stripe', 'checker', 'dot', 'ring', 'pillar', 'grid', 'diagonal', 'wave', 'brick', 'blob')
SHAPES = ('disc', 'square', 'triangle', 'star', 'cross', 'hexagon', 'cloud')
MAX_CLASSES = 2 * len(TEXTURES) + 1
_WAVELENGTHS = (8.0, 13.0)  # pixels: of the first ten classes and of the second ten
_COLOUR_SPREAD = 0.2  # standard deviation of an object's hue around its class's, in turns
_MIN_OBJECT = 0.05  # share of the image that each object shows, borders apart
_MIN_BACKGROUND = 0.35  # share of the image that background shows, borders apart
_ATTEMPTS, _SHRINK = 60, 0.97


class Scene(NamedTuple):
    """One image with its full truth.

    `image` (H, W, 3) uint8 RGB; `semantic` (H, W) uint8, class ids and 255 on borders; `instance` (H, W) uint8, 0 the
    background, 1..n the objects from back to front and 255 on borders; `classes` the n objects' class ids; `visible`
    (H, W) uint8, the instances before the borders became void.
    """

    image: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    classes: list
    visible: np.ndarray


def class_names(num_classes):
    """Return the names of the classes 0..num_classes-1: `background`, then texture and shape."""
    traits = map(_class_traits, range(1, num_classes))
    return ['background', *(f'{"" if wavelength == _WAVELENGTHS[0] else "coarse_"}{texture}_{shape}'
                            for texture, shape, wavelength in traits)]


def render_scene(rng, height, width, num_classes, first_class):
    """Draw one scene of `height` x `width` pixels from the numpy generator `rng`.

    `first_class` (1..num_classes-1) is the class of the first object; one or two others may follow.
    Returns a `Scene`. There is at least one object, and a good part of each is neither hidden nor void.
    """
    canvas = _background(rng, height, width)
    visible = np.zeros((height, width), np.uint8)
    classes = []
    count = rng.choice([1, 2, 3], p=[0.25, 0.45, 0.30])
    low, high = {1: (0.27, 0.38), 2: (0.17, 0.27), 3: (0.12, 0.20)}[count]
    for _ in range(count):
        label = first_class if not classes else int(rng.integers(1, num_classes))
        placed = _place(rng, visible, label, rng.uniform(low, high))
        if placed is None:
            continue
        visible, mask, centre = placed
        classes.append(label)
        alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.6)[..., None]
        canvas = canvas * (1 - alpha) + _object_colours(rng, label, num_classes, height, width, centre) * alpha
    border = _borders(visible)
    semantic = np.array([0, *classes], np.uint8)[visible]
    semantic[border] = VOID
    instance = np.where(border, np.uint8(VOID), visible)
    return Scene(_expose(rng, canvas), semantic, instance, classes, visible)


def _class_traits(label):
    """Return the texture's name, the shape's name and the wavelength in pixels of class `label` (1..20)."""
    index = label - 1
    return TEXTURES[index % len(TEXTURES)], SHAPES[index % len(SHAPES)], _WAVELENGTHS[index // len(TEXTURES)]


def _borders(visible):
    """Return the (H, W) bool map of pixels whose 3x3 neighbourhood holds more than one instance."""
    kernel = np.ones((3, 3), np.uint8)
    return cv2.dilate(visible, kernel) != cv2.erode(visible, kernel)


def _place(rng, visible, label, area):
    """Try poses for an object covering the share `area` of the image, smaller ones as attempts fail.

    Returns (visible with the new object, mask, centre), or None when no pose leaves enough of everything to be seen.
    """
    height, width = visible.shape
    identity = int(visible.max()) + 1
    least = np.full(identity + 1, _MIN_OBJECT * visible.size)
    least[0] = _MIN_BACKGROUND * visible.size
    for _ in range(_ATTEMPTS):
        centre = rng.uniform((0.22 * width, 0.22 * height), (0.78 * width, 0.78 * height))
        outline = _outline(rng, _class_traits(label)[1]) * np.sqrt(area * visible.size) + centre
        mask = np.zeros_like(visible)
        cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
        mask = mask.astype(bool)
        candidate = np.where(mask, np.uint8(identity), visible)
        clear = np.bincount(candidate[~_borders(candidate)], minlength=identity + 1)
        if np.all(clear >= least) and np.count_nonzero(mask) >= 0.7 * area * visible.size:
            return candidate, mask, centre
        area *= _SHRINK
    return None


def _outline(rng, shape):
    """Return a randomly posed polygon (N, 2) of `shape` with area 1 around the origin."""
    if shape in ('disc', 'cloud'):
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radii = np.ones_like(angles)
        if shape == 'cloud':
            for wave in (2, 3, 5):
                radii += rng.uniform(0.05, 0.14) * np.sin(wave * angles + rng.uniform(0, 2 * np.pi))
    elif shape == 'star':
        angles = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2, 0.5, 1.0)
    elif shape == 'cross':
        arm = np.arctan2(0.4, 1.0)
        angles = np.concatenate([turn * np.pi / 2 + np.array([-arm, arm, np.pi / 4]) for turn in range(4)])
        radii = np.tile([np.hypot(1, 0.4), np.hypot(1, 0.4), np.hypot(0.4, 0.4)], 4)
    else:
        corners = {'triangle': 3, 'square': 4, 'hexagon': 6}[shape]
        angles = np.arange(corners) * 2 * np.pi / corners
        radii = np.ones(corners)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    stretch = np.sqrt(rng.uniform(0.75, 1.33))
    turn = rng.uniform(0, 2 * np.pi)
    points = points * (stretch, 1 / stretch)
    points = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    x, y = points.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return points / np.sqrt(area)


def _texture(rng, name, wavelength, height, width, centre):
    """Return the (H, W) float64 pattern of texture `name`, from -1 to 1, with random phase, size and slight turn."""
    wavelength = wavelength * rng.uniform(0.88, 1.12)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x, y = x - centre[0], y - centre[1]
    turn = rng.uniform(-0.13, 0.13)
    if name == 'diagonal':
        turn += rng.choice([-1, 1]) * np.pi / 4
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    u, v = (2 * np.pi / wavelength * axis + rng.uniform(0, 2 * np.pi) for axis in (u, v))
    if name == 'blob':
        fine, coarse = wavelength / 5, wavelength / 3
        noise = rng.standard_normal((height, width))
        band = cv2.GaussianBlur(noise, (0, 0), fine) - cv2.GaussianBlur(noise, (0, 0), coarse)
        return np.tanh(2 * band / band.std())
    # A tanh of a wave is a softened square wave; the offsets set how much of a period is bright.
    if name == 'brick':
        shifted = u / 2 + np.pi * (np.floor(v / (2 * np.pi)) % 2)
        wave = np.minimum(0.75 + np.cos(v), 0.9 + np.cos(shifted))
    else:
        wave = {
            'stripe': lambda: np.sin(v),
            'pillar': lambda: np.sin(u),
            'diagonal': lambda: np.sin(v),
            'checker': lambda: 1.6 * np.sin(0.8 * u) * np.sin(0.8 * v),
            'dot': lambda: np.cos(u) + np.cos(v) - 0.6,
            'ring': lambda: np.sin(2 * np.pi / wavelength * np.hypot(x, y)),
            'grid': lambda: np.maximum(np.cos(u), np.cos(v)) - 0.65,
            'wave': lambda: np.sin(v + 1.8 * np.sin(0.5 * u)),
        }[name]()
    return np.tanh(2.5 * wave)


def _object_colours(rng, label, num_classes, height, width, centre):
    """Return an (H, W, 3) float64 image in 0..1 of the object's surface: two colours mixed by its texture, shaded."""
    hue = (label - 1) / (num_classes - 1) + rng.normal(0, _COLOUR_SPREAD)
    contrast = rng.uniform(0.35, 0.6)
    value = rng.uniform(0.55, 1.0)
    saturation = rng.uniform(0.25, 0.7)
    bright = _hsv(hue, saturation, value)
    dark = _hsv(hue + rng.normal(0, 0.08), saturation, value * (1 - contrast))
    if rng.random() < 0.5:
        bright, dark = dark, bright
    texture, _, wavelength = _class_traits(label)
    mix = (0.5 + 0.5 * _texture(rng, texture, wavelength, height, width, centre))[..., None]
    return (mix * bright + (1 - mix) * dark) * _ramp(rng, height, width, 0.2)[..., None]


def _background(rng, height, width):
    """Return an (H, W, 3) float64 image in 0..1: mottled colours, plain polygons and lines, none of class textures."""
    first, second = (_hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.9)) for _ in range(2))
    canvas = first + (second - first) * (0.5 + 0.35 * _mottle(rng, height, width))[..., None]
    for _ in range(rng.integers(4, 9)):
        sides = rng.integers(3, 7)
        angles = np.sort(rng.uniform(0, 2 * np.pi, sides))
        reach = rng.uniform(0.08, 0.25) * np.sqrt(height * width)
        corners = reach * np.stack([np.cos(angles), np.sin(angles)], 1) + rng.uniform((0, 0), (width, height))
        mask = np.zeros((height, width), np.float64)
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1.0)
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 2.5))[..., None] * rng.uniform(0.4, 0.9)
        colour = _hsv(rng.random(), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.95))
        canvas = canvas * (1 - mask) + colour * mask
    for _ in range(rng.integers(1, 5)):
        ends = np.rint(rng.uniform((0, 0, 0, 0), (width, height, width, height))).astype(int).tolist()
        colour = _hsv(rng.random(), 0.4, rng.uniform(0.2, 0.9)).tolist()
        cv2.line(canvas, ends[:2], ends[2:], colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    return canvas * (1 + 0.12 * _mottle(rng, height, width))[..., None]


def _mottle(rng, height, width):
    """Return an (H, W) float64 sum of smooth noises of several sizes with zero mean and unit deviation."""
    total = np.zeros((height, width))
    for cell in (4, 8, 16, 40):
        grid = rng.standard_normal((height // cell + 2, width // cell + 2))
        total += np.sqrt(cell) * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return (total - total.mean()) / total.std()


def _ramp(rng, height, width, strength):
    """Return an (H, W) float64 linear ramp of random direction from 1-strength to 1+strength at most."""
    turn = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    return 1 + strength * (np.cos(turn) * x + np.sin(turn) * y) / np.sqrt(2)


def _expose(rng, canvas):
    """Light the scene with a ramp, a gain and a cast, add sensor noise, and return it as uint8."""
    height, width, _ = canvas.shape
    light = _ramp(rng, height, width, rng.uniform(0, 0.45)) * rng.uniform(0.75, 1.15)
    cast = rng.uniform(0.88, 1.12, 3)
    lit = canvas * light[..., None] * cast + rng.normal(0, rng.uniform(0.01, 0.03), canvas.shape)
    return np.rint(255 * np.clip(lit, 0, 1)).astype(np.uint8)


def _hsv(hue, saturation, value):
    """Return the (3,) RGB colour in 0..1 of hue (in turns), saturation and value."""
    rgb = np.clip(np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return value * (1 - saturation + saturation * rgb)
