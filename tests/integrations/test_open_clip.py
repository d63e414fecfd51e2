from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from cir_plugins.integrations.open_clip import MinedClipLoss


def features(seed: int, *shape: int) -> torch.Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(made, dim=-1)


def test_no_mined_features_give_the_librarys_loss() -> None:
    images, texts, scale = features(0, 5, 8), features(1, 5, 8), torch.tensor(10.0)
    losses = MinedClipLoss()(images, texts, scale, output_dict=True)
    assert torch.equal(losses["contrastive_loss"], ClipLoss()(images, texts, scale))


@pytest.mark.parametrize("masked", [False, True])
def test_mined_columns_equal_a_slow_plain_reference(masked: bool) -> None:
    images, texts = features(0, 4, 8), features(1, 4, 8)
    wrong_texts, wrong_images = features(2, 4, 3, 8), features(3, 4, 2, 8)
    mask = torch.tensor([[True, False, True]] * 4) if masked else None
    loss = MinedClipLoss()(
        images,
        texts,
        torch.tensor(7.0),
        torch.tensor(-1.0),
        mined_text_features=wrong_texts,
        mined_image_features=wrong_images,
        mined_text_mask=mask,
    )
    total = 0.0
    for i in range(4):
        rows = [0, 2] if masked else [0, 1, 2]
        row = [images[i] @ texts[j] for j in range(4)] + [
            images[i] @ wrong_texts[i, k] for k in rows
        ]
        column = [texts[i] @ images[j] for j in range(4)]
        column += [texts[i] @ wrong_images[i, k] for k in range(2)]
        for logits in (row, column):
            total -= float((7 * torch.stack(logits) - 1).log_softmax(0)[i]) / 8
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_gradients_push_mined_texts_away() -> None:
    images, texts = features(0, 4, 8), features(1, 4, 8)
    mined = features(2, 4, 3, 8).requires_grad_()
    MinedClipLoss()(images, texts, torch.tensor(5.0), mined_text_features=mined).backward()
    assert mined.grad is not None
    assert (torch.einsum("bkd,bd->bk", mined.grad, images) > 0).all()


def test_features_of_other_or_gathered_rows_are_errors() -> None:
    images, texts, scale = features(0, 4, 8), features(1, 4, 8), torch.tensor(5.0)
    with pytest.raises(ValueError, match=r"expected mined features \(4, K, 8\), found \(3, 2, 8\)"):
        MinedClipLoss()(images, texts, scale, mined_text_features=features(2, 3, 2, 8))
    loss = MinedClipLoss(rank=0, world_size=2)
    with pytest.raises(ValueError, match="need local_loss=True"):
        loss._check(features(2, 4, 2, 8), None, images)


def test_a_mask_of_floats_is_an_error() -> None:
    """It ended in an error about ``~`` of floats."""
    images, texts, mined = features(0, 4, 8), features(1, 4, 8), features(2, 4, 3, 8)
    features_and_mask = {"mined_text_features": mined, "mined_text_mask": torch.ones(4, 3)}
    with pytest.raises(ValueError, match=r"expected a mask \(4, 3\) of bool .* of torch.float32"):
        MinedClipLoss()(images, texts, torch.tensor(5.0), **features_and_mask)
