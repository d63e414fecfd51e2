"""ComposeAE's composition: image features rotated by the text, mapped back to the image space.

Source: Anwaar, Labintcev, Kleinsteuber, WACV 2021, arXiv 2006.11149, section 3.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

# Weights of the convolutional and of the linear branch; the last two are unused.
_WEIGHTS = (1.0, 10.0, 1.0, 1.0)


class Rotated(NamedTuple):
    """Rotated image features, a complex number per coordinate, (B, D) each.

    Attributes:
        size: Its magnitude k.
        angle: The text's rotation, in radians.
        real: k cos(angle).
        imaginary: ±k sin(angle).
    """

    size: Tensor
    angle: Tensor
    real: Tensor
    imaginary: Tensor


class Composition(NamedTuple):
    """A composed query and its intermediate results.

    Attributes:
        linear: Rotation in the linear branch, None in real space.
        convolved: Rotation in the convolutional branch, None in real space.
        rho_linear: (B, D) output of the linear branch.
        pooled: (B, P) the convolution's pooled output, channel by channel.
        rho_convolved: (B, D) output of the convolutional branch.
        out: (B, D) their weighted sum.
    """

    linear: Rotated | None
    convolved: Rotated | None
    rho_linear: Tensor
    pooled: Tensor
    rho_convolved: Tensor
    out: Tensor


class Rotation(nn.Module):
    """A complex vector of the image's size, from image and text vector.

    Args:
        width: Size D of the image's vector.
        text_width: Size of the text's vector.
        dropout: In the image's layers, in [0, 1).

    Source: Anwaar et al., arXiv 2006.11149, equations 2 to 4.
    """

    def __init__(self, width: int, text_width: int, dropout: float) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.Linear(width, width),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Linear(width, width),
        )
        self.text = nn.Sequential(
            nn.BatchNorm1d(text_width),
            nn.Linear(text_width, width),
            nn.ReLU(),
            nn.Linear(width, width),
        )

    def forward(self, image: Tensor, text: Tensor, sign: int) -> Rotated:
        """The rotation of images (B, D) by texts; ``sign`` -1 gives its conjugate."""
        size, angle = self.image(image), self.text(text)
        return Rotated(size, angle, size * angle.cos(), sign * size * angle.sin())


def two_layers(size: int, hidden: int, out: int) -> nn.Sequential:
    """Norm, ReLU and two linear layers: ComposeAE's mappings and decoders."""
    return nn.Sequential(
        nn.BatchNorm1d(size), nn.ReLU(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, out)
    )


class Composer(nn.Module):
    """One vector in the image space, from image and text by a linear and a convolutional branch.

    Args:
        width: Size D of the image's vector.
        text_width: Size of the text's vector.
        space: ``complex``, or ``real``: the two vectors side by side.
        channels: Channels of the convolution.
        pool: Positions after pooling; 0 to make it as wide as the linear branch's input.
        dropout: In the rotations, in [0, 1).

    Source: Anwaar et al., arXiv 2006.11149, section 3.2, and the released RealSpaceConcatAE.
    """

    def __init__(
        self,
        width: int,
        text_width: int,
        *,
        space: Literal["complex", "real"] = "complex",
        channels: int = 64,
        pool: int = 0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.space = space
        joined = 2 * width if space == "complex" else width + text_width
        pool = pool or max(1, joined // channels)
        if space == "complex":
            self.linear_rotation = Rotation(width, text_width, dropout)
            self.conv_rotation = Rotation(width, text_width, dropout)
        self.linear_mapping = two_layers(joined, width, width)
        self.conv = nn.Conv1d(5 if space == "complex" else 1, channels, 3, padding=1)
        self.pool = nn.AdaptiveMaxPool1d(pool)
        self.conv_mapping = two_layers(channels * pool, width, width)
        self.weights = nn.Parameter(torch.tensor(_WEIGHTS))

    def forward(self, image: Tensor, text: Tensor, sign: int = 1) -> Composition:
        """The composition of images (B, D) and texts; ``sign`` -1 rotates the other way."""
        linear, convolved = None, None
        if self.space == "complex":
            linear = self.linear_rotation(image, text, sign)
            convolved = self.conv_rotation(image, text, sign)
            joined = torch.cat([linear.real, linear.imaginary], dim=1)
            size, angle, real, imaginary = convolved
            stacked = torch.stack([size, angle, image, real, imaginary], dim=1)  # (B, 5, D)
        else:
            joined = torch.cat([image, text], dim=1)
            stacked = joined[:, None]
        rho_linear = self.linear_mapping(joined)
        pooled = self.pool(self.conv(stacked)).flatten(1)
        rho_convolved = self.conv_mapping(pooled)
        out = self.weights[1] * rho_linear + self.weights[0] * rho_convolved
        return Composition(linear, convolved, rho_linear, pooled, rho_convolved, out)
