"""Dilated depthwise convolutions that are fast on a CPU.

PyTorch has no fast kernels for their gradients there: in EfficientNet-Lite0 at output stride 8 they took most of a
training step. The gradient of the maps is a convolution with the turned kernel, which has fast ones. That of a row of
the kernel is a product of matrices, rows of the maps with rows of the output's gradient, summed along its diagonals.
"""
import torch
import torch.nn.functional as F
from torch import nn

# Beyond this much padding the fast kernels end; by phases there is less of it.
_MOST_PADDING = 4


class DilatedDepthwise(nn.Conv2d):
    """A depthwise convolution of stride 1 that keeps the size of (B, C, H, W) maps; keys as those of nn.Conv2d."""

    def forward(self, x):
        """Map (B, C, H, W) to the same shape."""
        if x.device.type != 'cpu':
            return super().forward(x)
        y = _Convolution.apply(x, self.weight, self.dilation)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]


def speed_up_dilated(network):
    """Put a DilatedDepthwise with the same weights in the place of each convolution that it can be, in place."""
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if type(module) is nn.Conv2d and _is_dilated_depthwise(module):
                faster = DilatedDepthwise(module.in_channels, module.out_channels, module.kernel_size,
                                          padding=module.padding, dilation=module.dilation, groups=module.groups,
                                          bias=module.bias is not None, device='meta')
                faster.weight, faster.bias = module.weight, module.bias
                setattr(parent, name, faster.train(module.training))


def _is_dilated_depthwise(convolution):
    """Return whether an nn.Conv2d is a dilated depthwise one of stride 1 that pads with zeros to keep the size."""
    sides = list(zip(convolution.kernel_size, convolution.dilation, strict=True))
    return (convolution.groups == convolution.in_channels == convolution.out_channels
            and convolution.dilation != (1, 1) and convolution.stride == (1, 1) and convolution.padding_mode == 'zeros'
            and all(side % 2 for side, _ in sides)
            and convolution.padding == tuple(dilation * (side // 2) for side, dilation in sides))


class _Convolution(torch.autograd.Function):
    """(B, C, H, W) maps and a (C, 1, ky, kx) kernel, in the type of autocast where that is on."""

    @staticmethod
    def forward(ctx, x, weight, dilation):
        if torch.is_autocast_enabled('cpu'):
            dtype = torch.get_autocast_dtype('cpu')
            x, weight = x.to(dtype), weight.to(dtype)
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _convolve(x, weight, dilation)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        of_x = _convolve(gradient, weight.flip(2, 3), ctx.dilation) if ctx.needs_input_grad[0] else None
        of_weight = _weight_gradient(x, gradient, weight, ctx.dilation) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None


def _convolve(x, weight, dilation):
    """Convolve (B, C, H, W) maps: as PyTorch does, or, with much padding, each phase of them by itself.

    A phase has every d-th row and column, so that its convolution is not dilated.
    """
    (B, C, H, W), (dy, dx) = x.shape, dilation
    halves = [side // 2 for side in weight.shape[2:]]
    padding = [step * half for step, half in zip(dilation, halves, strict=True)]
    if max(padding) <= _MOST_PADDING:
        return F.conv2d(x, weight, padding=padding, dilation=dilation, groups=C)
    x = F.pad(x, (0, -W % dx, 0, -H % dy))
    h, w = x.shape[2] // dy, x.shape[3] // dx
    x = x.reshape(B, C, h, dy, w, dx).permute(0, 3, 5, 1, 2, 4).reshape(B * dy * dx, C, h, w)
    x = F.conv2d(x, weight, padding=halves, groups=C)
    return x.reshape(B, dy, dx, C, h, w).permute(0, 3, 4, 1, 5, 2).reshape(B, C, h * dy, w * dx)[..., :H, :W]


def _weight_gradient(x, gradient, weight, dilation):
    """Return the (C, 1, ky, kx) gradient of a kernel from (B, C, H, W) maps and their output's gradient.

    Float32 where these are bfloat16.
    """
    (_, C, H, W), (ky, kx), (dy, dx) = x.shape, weight.shape[2:], dilation
    x, gradient = x.transpose(0, 1), gradient.transpose(0, 1)
    found = weight.new_zeros(weight.shape, dtype=torch.float32 if weight.dtype == torch.bfloat16 else weight.dtype)
    for i in range(ky):
        down = (i - ky // 2) * dy
        if abs(down) >= H:
            continue
        rows = x[:, :, max(down, 0):H + min(down, 0)].reshape(C, -1, W)
        row_gradients = gradient[:, :, max(-down, 0):H - max(down, 0)].reshape(C, -1, W)
        products = torch.bmm(row_gradients.transpose(1, 2), rows)  # (C, W, W), a column of the output by one of x
        for j in range(kx):
            right = (j - kx // 2) * dx
            if abs(right) < W:
                found[:, 0, i, j] = torch.diagonal(products, right, 1, 2).sum(1, dtype=found.dtype)
    return found
