"""Where the files of the VOC 2012 layout are under the data root, and its list files (METHOD.md, "Files").

The built-in data set and the preparation of the real one both write this layout, so that the same scripts train on
either.
"""
import pathlib

from spml.utils.formats import write_json, write_text

IMAGES, TEST_IMAGES = 'VOC2012/JPEGImages', 'VOC2012-test/JPEGImages'
TRUTH, INSTANCES, REGIONS = 'VOC2012/segcls', 'VOC2012/seginst', 'VOC2012/hed'
TAGS, BOXES, ACTIVATIONS = 'VOC2012/cam/seam_a6_th0.2', 'VOC2012/cam/seambox_a6_th0.5', 'VOC2012/cam_npy'
# Of images whose objects are known by boxes, before there are CAMs: background outside all boxes, unlabelled inside;
# and the boxes of all training images, in COCO's format.
OUTSIDE_BOXES, BOXES_FILE = 'VOC2012/box', 'boxes.json'
MIXED = 'VOC2012/mixed'  # of own images with several kinds of labels
# list name: folder, share of each stroke's length that is kept, width of the stroke in pixels
STROKES = {
    'scribble': ('VOC2012/scribble/dilate_3', 1.0, 3),
    'scribble_0.8': ('VOC2012/scribble/dilate_3_0.8', 0.8, 3),
    'scribble_0.5': ('VOC2012/scribble/dilate_3_0.5', 0.5, 3),
    'scribble_0.3': ('VOC2012/scribble/dilate_3_0.3', 0.3, 3),
    'point': ('VOC2012/scribble/dilate_6_0.0', 0.0, 6),
}
# list name: folder of the semantic labels
TRAIN_LABELS = {**{kind: folder for kind, (folder, _, _) in STROKES.items()}, 'tag': TAGS, 'box': BOXES, 'full': TRUTH}


def write_lists(out, train, val, test):
    """Write the lists of every split and, for training, of every kind of label; arguments are names of images."""
    for kind, folder in TRAIN_LABELS.items():
        write_lines(out, f'train_{kind}', [f'{IMAGES}/{name}.jpg {folder}/{name}.png {REGIONS}/{name}.png'
                                           for name in train])
    write_lines(out, 'val', [f'{IMAGES}/{name}.jpg {TRUTH}/{name}.png {TRUTH}/{name}.png' for name in val])
    write_lines(out, 'test', [f'{TEST_IMAGES}/{name}.jpg' for name in test])


def write_lines(out, name, lines):
    """Write `lists/<name>.txt` under the data root `out` and return its path."""
    path = pathlib.Path(out) / 'lists' / f'{name}.txt'
    write_text(path, ''.join(f'{line}\n' for line in lines))
    return path


def write_boxes(out, images, class_names, **info):
    """Write the boxes of images to `BOXES_FILE` in COCO's format, with `info` about them, and return its path.

    `images` is a list of (file name, (H, W), list of (class, (left, top, right, bottom))), right and bottom excluded.
    """
    path, annotations = pathlib.Path(out) / BOXES_FILE, []
    for index, (_, _, boxes) in enumerate(images):
        for label, (left, top, right, bottom) in boxes:
            annotations.append({'id': len(annotations), 'image_id': index, 'category_id': label,
                                'bbox': [int(value) for value in (left, top, right - left, bottom - top)]})
    write_json(path, {
        'info': info, 'annotations': annotations,
        'images': [{'id': index, 'file_name': name, 'height': height, 'width': width}
                   for index, (name, (height, width), _) in enumerate(images)],
        'categories': [{'id': index, 'name': name} for index, name in enumerate(class_names)]})
    return path
