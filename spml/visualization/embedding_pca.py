"""Embeddings as colours: their three principal components become red, green and blue."""
import torch

# A component this much weaker than the first, or than the embedding itself, is rounding, which stretching to 0..255
# would show as structure.
_NEGLIGIBLE_TO_FIRST = 1e-10
_NEGLIGIBLE_TO_ENERGY = 1e-20


def embedding_pca(embedding):
    """Return the first three principal components of one image's embedding as an RGB picture, (H, W, 3) uint8.

    The embedding is a (D, H, W) float tensor or array, on any device, with or without gradient. Each component is
    stretched to the full range; one without variance is mid-grey. A component's sign is chosen so that its largest
    weight is positive, which makes the result a function of the input alone.
    """
    embedding = torch.as_tensor(embedding).detach().to('cpu', torch.float64)
    channels, height, width = embedding.shape
    pixels = embedding.reshape(channels, -1).T
    energy = pixels.square().sum()
    pixels = pixels - pixels.mean(0)
    variance, axes = torch.linalg.eigh(pixels.T @ pixels)  # ascending
    variance, axes = variance.flip(0)[:3], axes.flip(1)[:, :3]
    largest = axes.abs().argmax(0, keepdim=True)
    components = pixels @ (axes * axes.gather(0, largest).sign())

    rgb = torch.full((height * width, 3), 128, dtype=torch.uint8)
    negligible = torch.maximum(_NEGLIGIBLE_TO_FIRST * variance[0], _NEGLIGIBLE_TO_ENERGY * energy)
    for index in torch.nonzero(variance > negligible).flatten().tolist():
        values = components[:, index]
        low, high = values.min(), values.max()
        rgb[:, index] = ((values - low) / (high - low) * 255).round().to(torch.uint8)
    return rgb.reshape(height, width, 3).numpy()
