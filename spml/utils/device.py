"""Choosing the device; no other module names one."""
import torch

from spml.errors import ConfigError


def pick_device(name=None):
    """Return the torch.device `name`, or CUDA when there is one and the CPU otherwise.

    Raises:
        ConfigError: `name` is no device of this machine.
    """
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split('\n')[0]
        raise ConfigError(f'--device {name}: not usable here ({reason}); leave it out, or give cpu') from None
    # Convolutions in TF32 are off by 1e-3, which k-means and CRF amplify; results are to agree between devices.
    torch.backends.cudnn.allow_tf32 = False
    return device
