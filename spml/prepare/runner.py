"""How every preparation works through its items: what is made already, processes, a bar, a closing line.

A preparation describes its folders of results (`spml.recipe.ResultFolder`, by `results`) and hands its items to
`make`, which makes what is missing or was made from other files. `run_items` alone is for work that leaves no files.
Files must be written by `spml.utils.files`: one that is there is then complete.
"""
import functools
import logging
import os
import pathlib

import cv2
from tqdm import tqdm

from spml.recipe import Recipe, ResultFolder, combine, is_path
from spml.utils.formats import read_json_or_none, write_json
from spml.utils.workers import worker_pool

logger = logging.getLogger(__name__)

_NAME = '.made'  # of the two files of a ResultFolder: hidden, for the folder holds images
_OPTIONS_BEFORE = '.prepared_with.json'  # in which version 0.1.0 noted options, and nothing of what was made from what


def results(folder, options, outputs, inputs, digests):
    """Return the ResultFolder of a preparation.

    `options` is a dict from names to what JSON can hold: all that changes the content of the results, except files.
    What `inputs` returns may be paths or what JSON can hold.
    """
    return ResultFolder(folder, Recipe(options), outputs, inputs, digests, _NAME)


def make(function, items, folders, num_workers, title, overwrite=False):
    """Make the results that are missing or were made from other files.

    Returns a dict from the name of each item that was made to what `function` returned.

    Args:
        function, num_workers, title: as in `run_items`. It writes an item's results in all the folders that list it.
        items: dict from name to item.
        folders: list of (ResultFolder, names of the items that it holds results of).
        overwrite: make everything again, also what was made with other options.

    SpmlError: the results in a folder were made with other options, and `overwrite` is not set; or as in `run_items`.
    """
    for folder, names in folders:
        for name in tqdm(names, desc=f'{title}: looking for changes', unit='item', delay=2, leave=False):
            for source in filter(is_path, folder.inputs(name)):  # read here, with a bar, and remembered
                folder.digests(source)
        _recognise(folder, names)
    todo = [set(folder.remaining(names, overwrite, refuse=True)[0]) for folder, names in folders]
    names = [name for name in items if any(name in missing for missing in todo)]

    def note(name):
        for (folder, _), missing in zip(folders, todo, strict=True):
            if name in missing:
                folder.note(name)

    done = iter(names)
    found = run_items(function, [items[name] for name in names], num_workers, title, lambda: note(next(done)))
    return dict(zip(names, found, strict=True))


def is_prepared(folder):
    """Return whether a preparation, of this version or the one before, has noted options in a folder."""
    return any((pathlib.Path(folder) / name).is_file() for name in (f'{_NAME}_with.json', _OPTIONS_BEFORE))


def _recognise(folder, names):
    """Note for results without notes, those of version 0.1.0, that they are made from today's files if not older."""
    noted = folder.folder / f'{_NAME}_with.json'
    there = [name for name in names if all(pathlib.Path(path).is_file() for path in folder.outputs(name))]
    if noted.exists() or not there:
        return
    options = read_json_or_none(folder.folder / _OPTIONS_BEFORE)
    kept = []
    for name in there:
        made = min(os.stat(path).st_mtime_ns for path in folder.outputs(name))
        if not any(os.stat(source).st_mtime_ns > made for source in folder.inputs(name)
                   if is_path(source) and os.path.exists(source)):
            kept.append(name)
            folder.note(name, combine(map(folder.digests, folder.inputs(name))))
    write_json(noted, (Recipe(options) if isinstance(options, dict) else folder.recipe).to_json())
    logger.warning('%s: %d results made by an earlier version are kept; --overwrite makes them again', folder.folder,
                   len(kept))


def run_items(function, items, num_workers, title, on_done=None):
    """Return `[function(item) for item in items]`, made with a bar on standard error.

    The function is of a module (or a `functools.partial` of one), so that workers can import it; `num_workers`
    processes, or 0: this one; `title` is shown before the bar; `on_done` is called in this process as each item is
    done, in their order.

    SpmlError: what `function` raises first ends the work; finished items keep their files. Ctrl-C likewise.
    """
    found = []
    with tqdm(total=len(items), desc=title, unit='item', dynamic_ncols=True) as bar:
        def on_result(result):
            if on_done:
                on_done()
            found.append(result)
            bar.update()

        with worker_pool(min(num_workers, len(items)), title, on_result) as submit:
            for item in items:
                submit(functools.partial(_on_one_thread, function) if num_workers else function, item)
    return found


def summary(what, folder, written, total):
    """Print how many files of a kind were written to `folder` and how many of the `total` were there before."""
    before = f' ({total - written} were there already)' if written < total else ''
    print(f'{written} {what} written: {folder}{before}')


def _on_one_thread(function, item):
    # Every processor has its own worker: threads inside them would only get in each other's way.
    cv2.setNumThreads(1)
    return function(item)
