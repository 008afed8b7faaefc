"""The label maps of a user's data set: one of each kind that an image has, and one that combines them for training.

Where several label a pixel, a mask beats a scribble, that a point, and that what boxes say: background outside all of
them. Inside boxes a pixel is unlabelled, for CAMs to say more.
"""
import functools
from typing import NamedTuple

import numpy as np

from spml.data import voc_layout as layout
from spml.data.readers import check_size
from spml.errors import ConfigError, DataError
from spml.names import UNLABELLED, VOID
from spml.prepare import boxes, drawing_survey, drawings, notes, photos, shapes, tables
from spml.prepare.runner import results, run_items
from spml.recipe import FileDigests
from spml.utils.formats import write_png

# Folders of the label maps of each kind that has pixels; a later one beats an earlier one.
FOLDERS = {'box': layout.OUTSIDE_BOXES, 'point': layout.STROKES['point'][0], 'scribble': layout.STROKES['scribble'][0],
           'mask': layout.TRUTH}


class Rules(NamedTuple):
    """How labels are read, besides what `Sources` say.

    `codings` is a dict from the options that give drawings to their `drawings.Coding`; `outside` is the value of what
    lies outside all boxes, 0 or `UNLABELLED`.
    """

    sources: NamedTuple
    classes: NamedTuple
    has_background: bool
    codings: dict
    outside: int


def read_rules(sources, classes, has_background, samples, num_workers):
    """Look at all drawings and return the Rules; what cannot be right is refused, what is odd warned of."""
    codings = {}
    for option, look in (('masks', drawing_survey.survey_mask),
                         ('scribbles', functools.partial(drawing_survey.survey_scribbles, classes, sources.undrawn,
                                                         sources.palettes, sources.first_id))):
        paths = [label.content for sample in samples for label in sample.labels.values() if label.option == option]
        if paths:
            surveys = run_items(look, paths, num_workers, f'look at {option}')
            fixes = sources.fixes if option == 'masks' else ()
            codings[option] = drawing_survey.coding(surveys, classes, sources.palettes, fixes)
            if fixes and not any(survey.values is not None and survey.holds_ids(codings[option]) for survey in surveys):
                raise ConfigError(f'--fix {fixes[0][0]}=...: says what a value in masks of ids means, but colours say '
                                  f'the class in all files of {sources.labels[option]}; leave it out')
            if option == 'masks':
                drawing_survey.check_no_class(surveys, classes, codings[option], has_background)
            else:
                codings[option] = codings[option]._replace(first_id=drawing_survey.find_first_id(
                    surveys, classes, codings[option], sources.undrawn, sources.first_id))
                if sources.first_id is not None and codings[option].first_id is None:
                    raise ConfigError(f'--first_id {sources.first_id}: says what ids mean, but colours say the class '
                                      f'in all files of {sources.labels[option]}; leave it out')
                drawing_survey.warn_of_colours(surveys, codings[option])
    outside = 0 if has_background and not sources.boxes_incomplete else UNLABELLED
    return Rules(sources, classes, has_background, codings, outside)


def resolve(rules, samples, num_workers):
    """Read the boxes and points of all samples: return these with values in their place, and what is odd in them.

    Boxes become lists [label value, [left, top, right, bottom]], points [label value, [x, y]].
    """
    reading = [sample for sample in samples if sample.labels.keys() & {'box', 'point'}]
    found = run_items(functools.partial(_resolve, rules), reading, num_workers, 'look at boxes') if reading else []
    read = {sample.name: sample for sample, _ in found}
    return [read.get(sample.name, sample) for sample in samples], [note for _, odd in found for note in odd]


def _resolve(rules, sample):
    odd, size = [], photos.photo_size(sample.image, rules.sources.drawn_on)
    labels, others = dict(sample.labels), rules.sources.rules.others
    if 'box' in labels:
        found = boxes.read_boxes(labels['box'].content, size, rules.classes, others, odd, rules.has_background)
        if rules.sources.labels['boxes'] == rules.sources.labels.get('labelme'):  # its other shapes are used there
            odd[:] = [note for note in odd if note[0] != notes.NO_BOX]
        labels['box'] = labels['box']._replace(content=[[value, list(corners)] for value, corners in found])
    if 'point' in labels:
        found = tables.read_points(labels['point'].content, size, rules.classes, others, odd, rules.has_background)
        labels['point'] = labels['point']._replace(content=[[value, path[0].tolist()] for value, path in found])
    return sample._replace(labels=labels), odd


def result_folders(rules, samples, out):
    """Return (ResultFolder, names) of the images, of the labels of each kind and of the combined ones, for `make`."""
    sources, digests, by_name = rules.sources, FileDigests(), {sample.name: sample for sample in samples}
    folders = [(results(out / layout.IMAGES, {'images': str(sources.images.resolve()), **sources.turning()},
                        lambda name: [out / by_name[name].image_path], lambda name: [by_name[name].image], digests),
                list(by_name))]
    for place in (*FOLDERS.values(), layout.MIXED):
        used = {sample.name: [sample.labels[kind] for kind in _kinds_in(place, sample)] for sample in samples}
        used = {name: labels for name, labels in used.items() if labels}
        if used:
            options = {'class list': sources.classes.read_text('utf-8-sig'), **sources.turning()}
            for option in sorted({label.option for labels in used.values() for label in labels}):
                options |= {option: str(sources.labels[option].resolve()), **_options(rules, option)}
            folders.append((results(
                out / place, options, lambda name, place=place: [out / place / f'{name}.png'],
                lambda name, used=used: [by_name[name].image, *(label.content for label in used[name])], digests),
                list(used)))
    return folders


def _kinds_in(place, sample):
    """Return of which kinds of a sample's labels the map in a folder is made."""
    kinds = [kind for kind in FOLDERS if kind in sample.labels]
    if place == layout.MIXED:
        return kinds if len(kinds) > 1 else []
    return [kind for kind in kinds if FOLDERS[kind] == place]


def _options(rules, option):
    """Return all that changes what label maps of an option hold, except files.

    What is as version 0.1.0 had it is left out, for its results to be known.
    """
    sources = rules.sources
    if option in ('labelme', 'coco'):
        return {name: value for name, value in sources.rules._asdict().items()
                if name not in shapes.ShapeRules._field_defaults or value != shapes.ShapeRules._field_defaults[name]}
    if option == 'points':
        return {'width of points': sources.point_width}
    if option == 'boxes':
        return {'outside boxes': rules.outside}
    by_colour, fixes, greys_too, first_id = rules.codings[option]
    undrawn = {'undrawn': sources.undrawn} if option == 'scribbles' else {}
    if option == 'scribbles' and first_id == 0 and drawings.as_colour(sources.undrawn) == drawings.BLACK:
        undrawn |= {'first id (usual: 1)': 0}
    usual, changing = rules.classes.colours is not None, [pair for pair in fixes if pair[0] != pair[1]]
    return {**undrawn, **({} if by_colour == usual else {f'colours of {option}': by_colour}),
            **({f'greys of {option}': True} if greys_too else {}), **({'fix': changing} if changing else {})}


def convert(rules, out, sample):
    """Write the image and the label maps of a sample; return what is odd in its annotations, see `notes`."""
    sources, odd, maps = rules.sources, [], {}
    size = photos.photo_size(sample.image, sources.drawn_on)
    for kind in FOLDERS:
        if kind in sample.labels:
            label = sample.labels[kind]
            original = label.content if label.option in ('scribbles', 'masks', 'labelme') else sources.labels[
                label.option]
            maps[kind] = _draw(rules, label, size, odd)
            check_size(original, maps[kind].shape, f'its image {sample.image}', size, photos.SAME_PHOTO)
            if kind != 'box' and (maps[kind] >= UNLABELLED).all():
                raise DataError(f'{original}: labels no pixel of {sample.image}; draw in it, or remove it')
            # Tools also export what nobody has looked at yet.
            if rules.has_background and label.option in ('coco', 'labelme', 'boxes') and not maps[kind].any():
                odd.append((notes.EMPTY, str(sample.image)))
            write_png(out / FOLDERS[kind] / f'{sample.name}.png', maps[kind])
    if 'box' in maps and rules.outside == 0 and any(
            _is_unboxed(maps[kind], maps['box'], len(rules.classes.names)) for kind in ('point', 'scribble') if
            kind in maps):
        odd.append((notes.UNBOXED, str(sample.image)))
    if len(maps) > 1:
        write_png(out / layout.MIXED / f'{sample.name}.png', combine(maps))
    photos.place_photo(sample.image, out / sample.image_path, sources.drawn_on)
    return odd


def _is_unboxed(drawn, boxes, num_classes):
    """Return whether more than half of what is drawn of a class lies where a map of boxes says background."""
    counts, outside = (np.bincount(labels, minlength=256)[1:num_classes] for labels in (
        drawn.ravel(), drawn[boxes == 0]))
    return bool((2 * outside > counts).any())


def combine(maps):
    """Return the (H, W) uint8 label map of a dict from kinds to such: at each pixel the strongest that labels it."""
    combined = np.full(next(iter(maps.values())).shape, UNLABELLED, np.uint8)
    for kind in FOLDERS:
        if kind in maps:
            combined = np.where(maps[kind] == UNLABELLED, combined, maps[kind])
    return combined


def train_label(sample):
    """Return where the label map that a sample is trained on lies below the data root, or None without one."""
    kinds = [kind for kind in FOLDERS if kind in sample.labels]
    folder = layout.MIXED if len(kinds) > 1 else FOLDERS[kinds[0]] if kinds else None
    return folder and f'{folder}/{sample.name}.png'


def _draw(rules, label, size, odd):
    """Return a Label as (H, W) uint8 label map, of an image of (H, W) = `size` where it does not have its own.

    The list `odd` takes what is odd in it.
    """
    sources, classes = rules.sources, rules.classes
    if label.option == 'coco':
        return shapes.draw_coco(label.content, size, sources.rules, odd)
    if label.option == 'labelme':
        return shapes.draw_labelme(label.content, size, classes, sources.rules, odd)
    if label.option == 'masks':
        return drawings.read_mask(label.content, classes, rules.codings['masks'])
    if label.option == 'scribbles':
        return drawings.read_scribbles(label.content, classes, sources.undrawn, rules.codings['scribbles'])
    if label.option == 'points':
        dots = [(value, np.array([point])) for value, point in label.content]
        return shapes.draw_strokes(dots, size, sources.point_width / 2)
    # Boxes alone say what is outside them; inside one a pixel is unlabelled, or void, in one that is and no other.
    labels = np.full(size, rules.outside, np.uint8)
    for value, (left, top, right, bottom) in sorted(label.content, key=lambda box: box[0], reverse=True):
        labels[top:bottom, left:right] = VOID if value == VOID else UNLABELLED
    return labels
