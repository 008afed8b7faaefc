"""What only a stage's own process can tell its pipeline: the memory of its tensors on a GPU.

The pipeline names a file in the environment (`SPML_USAGE`); outside of one nothing is written. Time and memory are
measured by the pipeline itself.
"""
import json
import os
import pathlib
import sys


def note_gpu_memory():
    """Write the most bytes of tensors that this process held on its GPU to the pipeline's file, if there are any."""
    torch = sys.modules.get('torch')  # do not import torch just for this
    path = os.environ.get('SPML_USAGE')
    if not path or os.environ.get('RANK', '0') != '0' or torch is None or not torch.cuda.is_initialized():
        return
    try:
        pathlib.Path(path).write_text(json.dumps({'gpu_memory': torch.cuda.max_memory_allocated()}))
    except OSError as error:
        # The stage's work is done; an unknown cost is no reason to fail it.
        print(f'note: {path}: {error.strerror}; the GPU memory of this stage is not recorded', file=sys.stderr)
