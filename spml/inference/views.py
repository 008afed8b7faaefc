"""Views of an image: scales and mirrors, padding and sliding windows (METHOD.md, "Inference").

Images are normalised first and resized after. A view is padded on the right and bottom with 0 to at least the crop;
results are cut back to the view's own size.
"""
import dataclasses
import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F

# Pixels of the windows that a network sees at once: with single small windows, reading its weights would dominate.
_PIXELS_AT_ONCE = 1 << 17


@dataclasses.dataclass
class View:
    """A resized image, (h, w, 3) float32, normalised; `mirrored` if it was flipped left to right."""

    image: np.ndarray
    mirrored: bool = False

    @property
    def size(self):
        """The (h, w) of the view, without padding."""
        return self.image.shape[:2]

    def unmirror(self, values):
        """Flip a (..., h, w) tensor back if the view is mirrored."""
        return values.flip(-1) if self.mirrored else values


def single_scale_size(size, image_size):
    """Return the (h, w) of an image of `size` scaled to fit `image_size`, ints truncated; 0 keeps it."""
    if image_size == 0:
        return tuple(size)
    ratio = min(image_size / size[0], image_size / size[1])
    return max(1, int(ratio * size[0])), max(1, int(ratio * size[1]))


def resize_view(image, size):
    """Return the View of a (H, W, 3) float32 normalised image at `size` = (h, w)."""
    if tuple(size) == image.shape[:2]:
        return View(image)
    return View(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR))


def shrunk_size(size, max_pixels):
    """Return the (h, w) of an image of `size` scaled down to at most `max_pixels`, ints truncated."""
    if size[0] * size[1] <= max_pixels:
        return tuple(size)
    scale = math.sqrt(max_pixels / (size[0] * size[1]))
    height = max(1, int(scale * size[0]))
    return height, min(max(1, int(scale * size[1])), max_pixels // height)


def shrink(values, size):
    """Return an (H, W) or (H, W, X) float32 array scaled down to `size` = (h, w), by means over areas."""
    if tuple(size) == values.shape[:2]:
        return values
    return cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def bilinear(values, size):
    """Resize (B, X, h, w) values to `size` bilinearly, with half-pixel centres."""
    return F.interpolate(values, size=size, mode='bilinear', align_corners=False)


def pyramid(image, ratios, mirrors):
    """Yield the views of an image at `ratios` of its size (ints truncate), each plain and, if asked, mirrored."""
    for ratio in ratios:
        view = resize_view(image, tuple(max(1, int(ratio * side)) for side in image.shape[:2]))
        yield view
        if mirrors:
            # A copy: torch takes no negative strides, which numpy keeps where a view is a single pixel wide.
            yield View(view.image[:, ::-1].copy(), mirrored=True)


def pad_to_crop(view, crop_size, device):
    """Return the view as (1, 3, H, W) on `device`, padded with 0 on the right and bottom to at least `crop_size`."""
    image = torch.from_numpy(view.image).to(device).permute(2, 0, 1)[None]
    height, width = view.size
    return F.pad(image, (0, max(0, crop_size[1] - width), 0, max(0, crop_size[0] - height)))


def window_ends(size, crop, stride):
    """Return where the ceil((size - crop) / stride) + 1 windows along one axis end: at int(linspace(crop, size))."""
    count = math.ceil((size - crop) / stride) + 1
    return [int(end) for end in np.linspace(crop, size, count)]


def sliding_window(function, image, crop_size, stride):
    """Return (1, X, H, W): the sum over windows of a dense function, divided by how many cover each pixel.

    The function maps windows (B, 3, ch, cw) to (B, X, ch, cw), independently; the image is (1, 3, H, W), at least as
    large as the crop; `crop_size` is (ch, cw), `stride` (sy, sx).
    """
    total, count = None, image.new_zeros((1, 1, *image.shape[-2:]))
    windows = [(..., slice(bottom - crop_size[0], bottom), slice(right - crop_size[1], right))
               for bottom in window_ends(image.shape[-2], crop_size[0], stride[0])
               for right in window_ends(image.shape[-1], crop_size[1], stride[1])]
    at_once = max(1, _PIXELS_AT_ONCE // (crop_size[0] * crop_size[1]))
    for start in range(0, len(windows), at_once):
        batch = windows[start:start + at_once]
        results = function(torch.cat([image[window] for window in batch]))
        if total is None:
            total = results.new_zeros((1, results.shape[1], *image.shape[-2:]))
        for window, values in zip(batch, results, strict=True):
            total[window] += values
            count[window] += 1
    return total.div_(count)
