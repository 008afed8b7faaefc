"""How every preparation works through its items: processes, a bar, going on after an interruption, a closing line.

A preparation names its items and the files each yields. It calls `check_options`, so that no folder mixes results made
in two ways, `unfinished` to skip what stands already, `run_items` for the rest, and `summary` to say what it wrote.
Files must be written by `spml.utils.atomic`: one that stands is then complete.
"""
import functools
import json
import pathlib

import cv2
from tqdm import tqdm

from spml.errors import DataError
from spml.utils.formats import write_json
from spml.utils.workers import worker_pool

_OPTIONS_FILE = '.prepared_with.json'


def check_options(folder, options):
    """Note in `folder` what its results are made with, or compare with what an earlier run noted there.

    Args:
        folder: folder of results; made when missing.
        options: dict from names to numbers, text, booleans, lists or None: all that changes the content of the results.

    Raises:
        DataError: the folder's results are made with other options.
    """
    path = pathlib.Path(folder) / _OPTIONS_FILE
    options = json.loads(json.dumps(options))
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        write_json(path, options)
        return
    except ValueError:
        found = None
    if found == options:
        return
    found = found if isinstance(found, dict) else {}
    changed = next((name for name in {**found, **options} if found.get(name) != options.get(name)), 'an option')
    raise DataError(f'{folder}: holds results made with {changed} = {found.get(changed)}, now it is '
                    f'{options.get(changed)}; choose another folder, or delete this one')


def unfinished(items, outputs):
    """Return the items some of whose files are missing.

    `outputs` is a function from an item to the list of the paths it yields.
    """
    return [item for item in items if not all(pathlib.Path(path).is_file() for path in outputs(item))]


def run_items(function, items, num_workers, title):
    """Call `function(item)` for every item, with a bar on standard error.

    Args:
        function: of a module (or a `functools.partial` of one), so that workers can import it.
        items: list.
        num_workers: processes; 0 works in this one.
        title: what stands before the bar.

    Returns:
        The list of results in the order of the items.

    Raises:
        SpmlError: what `function` raises first ends the work; finished items keep their files. Ctrl-C likewise.
    """
    results = []
    with tqdm(total=len(items), desc=title, unit='item', dynamic_ncols=True) as bar:
        def on_result(result):
            results.append(result)
            bar.update()

        with worker_pool(min(num_workers, len(items)), title, on_result) as submit:
            for item in items:
                submit(functools.partial(_on_one_thread, function) if num_workers else function, item)
    return results


def summary(what, folder, written, total):
    """Print how many files of a kind were written to `folder` and how many of the `total` stood there before."""
    before = f' ({total - written} stood there already)' if written < total else ''
    print(f'{written} {what} written: {folder}{before}')


def _on_one_thread(function, item):
    # Every processor has its own worker: threads inside them would only get in each other's way.
    cv2.setNumThreads(1)
    return function(item)
