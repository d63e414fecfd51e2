"""Mined negatives beside the batch in open_clip's contrastive loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cir_plugins.integrations.extras import installed

with installed("", "open_clip"):
    from open_clip.loss import ClipLoss


class MinedClipLoss(ClipLoss):  # type: ignore[misc]
    """open_clip's ``ClipLoss`` with columns of each row's own mined negatives.

    Image i is compared with the batch's texts and its ``mined_text_features``, text i against the
    batch's images and its ``mined_image_features``. Without mined features the value is that of
    ``ClipLoss``, bit for bit. The names fit ``loss(**model_out, output_dict=True)``, the call of
    open_clip's training loop. With several processes, ``local_loss=True`` is needed, since a row's
    columns stay on its process.
    """

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
        mined_text_features: Tensor | None = None,
        mined_image_features: Tensor | None = None,
        mined_text_mask: Tensor | None = None,
        mined_image_mask: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor]:
        """The loss, a scalar, or ``{"contrastive_loss": scalar}`` with ``output_dict``.

        Args:
            image_features: (B, D), unit length.
            text_features: (B, D), unit length.
            logit_scale: Scalar, already exponentiated.
            logit_bias: Scalar added to every logit.
            output_dict: Whether a dict is returned, as the training loop needs it.
            mined_text_features: (B, K, D) texts that are wrong for image i.
            mined_image_features: (B, K, D) images that are wrong for text i.
            mined_text_mask: (B, K) bool, False where the column is padding; None: all count.
            mined_image_mask: As above.

        Raises:
            ValueError: If mined features or masks have another shape or dtype, or there are several
                processes without ``local_loss``.
        """
        per_image, per_text = self.get_logits(
            image_features, text_features, logit_scale, logit_bias=logit_bias
        )
        labels = self.get_ground_truth(image_features.device, per_image.shape[0])
        bias = 0.0 if logit_bias is None else logit_bias
        self._check(mined_text_features, mined_text_mask, image_features)
        self._check(mined_image_features, mined_image_mask, image_features)
        if mined_text_features is not None:
            extra = _logits(image_features, mined_text_features, mined_text_mask, logit_scale, bias)
            per_image = torch.cat([per_image, extra], dim=1)
        if mined_image_features is not None:
            extra = _logits(
                text_features, mined_image_features, mined_image_mask, logit_scale, bias
            )
            per_text = torch.cat([per_text, extra], dim=1)
        loss = (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)) / 2
        return {"contrastive_loss": loss} if output_dict else loss

    def _check(self, mined: Tensor | None, mask: Tensor | None, features: Tensor) -> None:
        """Check that mined features and their mask belong to the batch's rows."""
        if mined is None:
            return
        rows, width = features.shape
        if mined.dim() != 3 or mined.shape[0] != rows or mined.shape[2] != width:
            raise ValueError(
                f"expected mined features ({rows}, K, {width}), found {tuple(mined.shape)}"
            )
        if mask is not None and (mask.dtype != torch.bool or mask.shape != mined.shape[:2]):
            raise ValueError(
                f"expected a mask {tuple(mined.shape[:2])} of bool for the mined features, found "
                f"{tuple(mask.shape)} of {mask.dtype}"
            )
        if self.world_size > 1 and not self.local_loss:
            raise ValueError("mined features on several processes need local_loss=True")


def _logits(
    features: Tensor, mined: Tensor, mask: Tensor | None, scale: Tensor, bias: Tensor | float
) -> Tensor:
    """Logits (B, K) of each row against its own mined features; -inf where masked."""
    logits = scale * torch.einsum("bd,bkd->bk", features, mined) + bias
    return logits if mask is None else logits.masked_fill(~mask, -torch.inf)
