"""Class activation maps, as SEAM stores them, to the tag labels and the box labels of VOC's training images."""
import functools
import pathlib

from spml.data import voc_layout as layout
from spml.data.cam_labels import BACKGROUND_POWER, box_labels, tag_labels
from spml.data.readers import read_cam
from spml.errors import DataError
from spml.prepare.voc12 import NUM_CLASSES
from spml.prepare.voc_xml import class_table, read_boxes
from spml.prepare.weak_labels import Labels, annotation_files, write_labels
from spml.utils.files import place_file


def prepare_tags(cam_dir, out, alpha, threshold, normalised, num_workers, overwrite=False):
    """Write labels that need nothing but the classes of each image: `cam_labels.tag_labels` of `cam_dir/<name>.npy`.

    The CAMs are linked to the place where the pipeline of image tags takes them from for its random walk. `out` is the
    data root that prepare_voc12.py wrote.
    """
    folder = f'VOC2012/cam/seam_a{alpha:g}_th{threshold:g}{"_sum1" if normalised else ""}'
    labels = _labels('tag', layout.TAGS, folder)
    draw = functools.partial(_draw_tags, alpha, threshold, normalised)
    cams = annotation_files(cam_dir, '.npy')
    for name in write_labels(out, [labels], cams, draw, num_workers, 'CAMs', overwrite=overwrite):
        place_file(cams[name], pathlib.Path(out) / layout.ACTIVATIONS / f'{name}.npy')


def prepare_boxes(cam_dir, annotations, out, threshold, num_workers, overwrite=False):
    """Write labels from CAMs and the boxes of VOC's XML `annotations` (`cam_labels.box_labels`); others as above."""
    cams, boxes = annotation_files(cam_dir, '.npy'), annotation_files(annotations, '.xml')
    without = sorted(set(cams) - set(boxes))
    if without:
        raise DataError(f'{pathlib.Path(annotations) / without[0]}.xml: no such file, though there are CAMs of that '
                        f'image; {len(without)} of {len(cams)} have none; let --boxes be VOC2012/Annotations')
    # The background's power is not used; the folder has the name that the release gives it.
    folder = f'VOC2012/cam/seambox_a{BACKGROUND_POWER}_th{threshold:g}'
    labels = _labels('box', layout.BOXES, folder)
    sources = {name: (path, boxes[name]) for name, path in cams.items()}
    write_labels(out, [labels], sources, functools.partial(_draw_boxes, threshold), num_workers, 'CAMs and boxes',
                 overwrite=overwrite)


def _labels(kind, usual, folder):
    """Return the Labels of a kind; with unusual options the list has a different name."""
    return Labels(kind if folder == usual else f'{kind}_{pathlib.PurePath(folder).name}', folder)


def _draw_tags(alpha, threshold, normalised, path, size):
    return [tag_labels(read_cam(path, NUM_CLASSES, size), size, alpha, threshold, normalised)]


def _draw_boxes(threshold, paths, size):
    cam_path, xml_path = paths
    boxes = read_boxes(xml_path, class_table())
    for _, (_, _, right, bottom) in boxes:
        if right > size[1] or bottom > size[0]:
            raise DataError(f'{xml_path}: a box reaches to x = {right}, y = {bottom}, but the image has '
                            f'{size[1]}x{size[0]} pixels (width x height); use the original files')
    return [box_labels(read_cam(cam_path, NUM_CLASSES, size), boxes, size, threshold)]
