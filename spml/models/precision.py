"""Networks made ready to predict in bfloat16 (`test.precision`)."""
import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

# Of the example that shows which layers follow each other.
_EXAMPLE_SIDE = 64


def compute_in(dtype, function, values):
    """Return `function` of (B, X, h, w) values, computed in `dtype` and returned in theirs; None: as they are."""
    if dtype is None:
        return function(values)
    return function(values.to(dtype, memory_format=torch.channels_last)).to(values.dtype)


def ready_to_predict(network, precision):
    """Return an EmbeddingNetwork or a SoftmaxClassifier in eval mode, its layers changed in place for bf16.

    Batch norms are folded into convolutions in float32; weights become bfloat16 with channels last.
    """
    network.eval()
    if precision == 'bf16':
        parts = [network.backbone, network.head] if hasattr(network, 'backbone') else [network.semantic_classifier]
        channels = 3 if hasattr(network, 'backbone') else network.semantic_classifier[0].in_channels
        weight = next(network.parameters())
        fold_batch_norms(network, weight.new_zeros(1, channels, _EXAMPLE_SIDE, _EXAMPLE_SIDE))
        for part in parts:
            part.to(torch.bfloat16, memory_format=torch.channels_last)
        network.dtype = torch.bfloat16
    return network


def fold_batch_norms(network, example):
    """Fold batch norms of a network in eval mode into the convolutions before them, in place.

    Which convolution is before which batch norm is seen on an example, (B, X, h, w): where one is applied to the very
    tensor that the other has returned. Nothing else may use that tensor.
    """
    outputs, pairs, calls = {}, [], {}

    def note(module, inputs, output):
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = module, output
        elif id(inputs[0]) in outputs:
            pairs.append((outputs[id(inputs[0])][0], module))

    hooks = [module.register_forward_hook(note) for module in network.modules()
             if isinstance(module, nn.Conv2d) or type(module) is nn.BatchNorm2d]  # subclasses may do more
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    places = {module: (parent, name) for parent in network.modules() for name, module in parent.named_children()}
    for convolution, norm in pairs:
        if calls[convolution] == calls[norm] == 1:
            for old, new in ((convolution, fuse_conv_bn_eval(convolution, norm)), (norm, nn.Identity())):
                parent, name = places[old]
                setattr(parent, name, new)
