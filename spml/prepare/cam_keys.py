"""Whether the keys of CAM dicts are class ids - 1, as SEAM writes them, or class ids: told by what else is known."""
import logging

from spml.data.readers import read_cam
from spml.errors import DataError
from spml.utils.maps import evenly

logger = logging.getLogger(__name__)

_LOOKED_AT = 64  # files


def check_keys(folder, files, known, what, by_class=False):
    """Compare the keys of some CAM files, from all over a folder, with what else is known of their images.

    Args:
        folder: their folder, for messages.
        files: dict from the name of each image to its file.
        known: function from names to a dict from some of these to the set of foreground classes that the image shows.
        what: what these classes are, for messages.
        by_class: whether keys are said to be class ids, 0 being background, instead of class - 1.

    DataError: read in the other way, the keys fit better. A key of 0 in every file is warned of, where nothing tells.
    """
    names = sorted(files)
    keys = {name: set(read_cam(files[name])) for name in (names[index] for index in evenly(len(names), _LOOKED_AT))}
    keys = {name: found for name, found in keys.items() if found}
    classes = known(list(keys))
    fits, exact = {}, {}
    for way in (False, True):
        read = {name: {key + (not way) for key in found} - {0} for name, found in keys.items()}
        overlaps = [len(read[name] & shown) / len(read[name] | shown) for name, shown in classes.items()
                    if read[name] | shown]
        fits[way], exact[way] = sum(overlaps), overlaps.count(1)
    other = not by_class
    # CAMs may have a class more or less than is known: neither way fits everywhere.
    if 2 * fits[other] > len(classes) and (
            fits[other] > 2 * fits[by_class] or exact[other] > exact[by_class] == 0):
        raise DataError(f'{folder}: its keys fit the {what} if they are {_way(other)}, and not if they are '
                        f'{_way(by_class)} ({len(classes)} files looked at); give --cam_keys '
                        + ('class' if other else 'class-1'))
    if keys and not by_class and all(0 in found for found in keys.values()) and fits[False] <= fits[True]:
        logger.warning('WARNING: %s: every file looked at has the key 0, so every image would show the class 1; give '
                       '--cam_keys class if that is the background and the others are class ids', folder)


def _way(by_class):
    return 'class ids' if by_class else 'class ids - 1'
