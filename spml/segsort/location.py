"""Where a pixel is, as k-means sees it besides the embedding (METHOD.md, "Network", local features)."""
import torch
from torch import Tensor


def location_features(height: int, width: int, device: torch.device | None = None,
                      dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (2, height, width): `linspace(0, 1) - 0.5` along y, then along x."""
    y = torch.linspace(0, 1, height, device=device, dtype=dtype) - 0.5
    x = torch.linspace(0, 1, width, device=device, dtype=dtype) - 0.5
    return torch.stack(torch.meshgrid(y, x, indexing='ij'))
