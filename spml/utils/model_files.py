"""Where weights are: `model-<iteration>.pth` in the folder of a training. No torch in here."""
import pathlib
import re

# The folder that holds spml/, configs/ and snapshots/.
PROJECT = pathlib.Path(__file__).resolve().parents[2]


def model_path(snapshot_dir, iteration):
    """Return the path of the snapshot of a zero-based iteration."""
    return pathlib.Path(snapshot_dir) / f'model-{iteration}.pth'


def model_iterations(folder):
    """Return the iterations whose `model-<iteration>.pth` are in a folder, ascending."""
    found = (re.fullmatch(r'model-(\d+)\.pth', path.name) for path in pathlib.Path(folder).glob('model-*.pth'))
    return sorted(int(match[1]) for match in found if match)


def newest_model(folder):
    """Return the `model-<iteration>.pth` of the highest iteration in a folder, or None."""
    iterations = model_iterations(folder)
    return model_path(folder, iterations[-1]) if iterations else None


def weights_path(text):
    """Return the file that the user means by a file or by the folder of a training, whose newest model it is then.

    A relative path is taken from the working directory, or else from the folder of the project. What is not there is
    returned as it is.
    """
    path = pathlib.Path(text)
    if not path.exists() and (PROJECT / path).exists():
        path = PROJECT / path
    return (newest_model(path) or path) if path.is_dir() else path
