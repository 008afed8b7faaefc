"""What is odd in annotations, but no error: counted over all files and told once, with an example.

Readers append pairs (one of the texts below, place and detail) to a list that their caller gives.
"""
import collections
import logging

logger = logging.getLogger(__name__)

NOTHING = 'annotations draw nothing'
EMPTY = 'images have nothing annotated and count as background all over'
CUT = 'boxes reach out of their image and are cut at its edge'
OUTSIDE = 'times, shapes reach out of an image whose size the file does not state (was a larger one labelled?)'
RENAMED = "files name another image than that which they are called like; the file's own name counts"
BACKGROUND = 'boxes are of the class background and left out'
UNBOXED = ('images have strokes or points of a class that lie outside all of their boxes, where the rest counts as '
           'background; if objects may have no box, give --boxes_incomplete')
NO_BOX = 'shapes are no rectangles and give no box'
NO_POINT = 'shapes are no points and are left out of these'


def warn(notes):
    """Log a warning for each of these texts: how many there are, and the first."""
    places = collections.defaultdict(list)
    for text, place in notes:
        places[text].append(place)
    for text, found in places.items():
        logger.warning('WARNING: %d %s, for example %s', len(found), text, found[0])
