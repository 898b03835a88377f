from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from memlight.batch import ViewBatch
from memlight.errors import UserError
from memlight.features.discovery import evaluating
from memlight.models.encoders import build_encoder
from memlight.modules import MAE
from memlight.modules.mae import patches, pixel_error
from memlight.random import ANALYSIS
from tests.close import NETWORK
from tests.modules.tiny import TINY_VIT, assert_gradients_reach_exactly, assert_starts_from_its_seed, view_batch

SIZE = 64
"""16 patches of 16 pixels, of which 4 are visible."""

REGISTER_VIT = "timm:test_vit2"
"""No class token but a register, and the last norm after pooling by averaging."""


def small(init_seed: int = 0, encoder: str = TINY_VIT, norm_pix_loss: bool = True) -> MAE:
    return MAE(
        encoder,
        image_size=SIZE,
        init_seed=init_seed,
        norm_pix_loss=norm_pix_loss,
        decoder_dim=16,
        decoder_depth=1,
        decoder_heads=2,
    )


def patch_by_loops(image: Tensor, number: int, side: int) -> Tensor:
    """One patch of ``(3, H, W)``, patches being numbered row by row: ``(3, side, side)``."""
    row, column = divmod(number, image.shape[2] // side)
    return image[:, row * side : (row + 1) * side, column * side : (column + 1) * side]


def error_by_loops(painted: Tensor, image: Tensor, hidden: list[int], side: int, normalize: bool) -> float:
    """Mean over hidden patches of the mean squared error over their pixels (He et al., 2022, sec. 3)."""
    total = 0.0
    for prediction, number in zip(painted.tolist(), hidden, strict=True):
        pixels = patch_by_loops(image, number, side).flatten().tolist()
        if normalize:
            mean = sum(pixels) / len(pixels)
            variance = sum((pixel - mean) ** 2 for pixel in pixels) / (len(pixels) - 1)
            pixels = [(pixel - mean) / (variance + 1e-6) ** 0.5 for pixel in pixels]
        total += sum((a - b) ** 2 for a, b in zip(prediction, pixels, strict=True)) / len(pixels)
    return total / len(hidden)


# Pixels


def test_patches_are_numbered_row_by_row() -> None:
    images = view_batch(12, images=2).views[0]
    cut = patches(images, 4)
    assert cut.shape == (2, 9, 48)
    for image, rows in zip(images, cut, strict=True):
        for number, row in enumerate(rows):
            assert torch.equal(row, patch_by_loops(image, number, 4).flatten())


@pytest.mark.parametrize("normalize", [True, False])
def test_pixel_error_is_that_of_loops(normalize: bool) -> None:
    image = view_batch(12, images=1).views[0][0]
    image[:, :4, :4] = 0.5  # a patch without contrast
    painted = torch.randn(3, 48, generator=torch.Generator().manual_seed(1))
    got = pixel_error(painted[None], patches(image[None], 4)[:, [0, 5, 7]], normalize=normalize)
    assert got.item() == pytest.approx(error_by_loops(painted, image, [0, 5, 7], 4, normalize), rel=1e-5)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_loss_is_the_error_of_the_hidden_patches_alone(norm_pix_loss: bool) -> None:
    module, batch = small(norm_pix_loss=norm_pix_loss), view_batch(SIZE)
    order = module.patch_order(batch)
    painted = module.paint_hidden(module.encode_visible(batch.views[0], order), order)
    each = [
        error_by_loops(row, image, hidden[4:].tolist(), 16, norm_pix_loss)
        for row, image, hidden in zip(painted, batch.views[0], order, strict=True)
    ]
    assert module.embed_and_loss(batch)[0].item() == pytest.approx(sum(each) / len(each), rel=1e-5)


# What is visible


def test_three_quarters_of_the_patches_are_hidden_and_each_as_often_as_any_other() -> None:
    module, images = small(), 2000
    batch = ViewBatch([], torch.zeros(images), torch.arange(images), torch.zeros(images, dtype=torch.int64))
    order = module.patch_order(batch)
    assert module.num_visible == 4
    assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(images, 16))
    visible = Counter(order[:, :4].flatten().tolist())
    assert set(visible) == set(range(16))
    expected, deviation = images / 4, (images * 1 / 4 * 3 / 4) ** 0.5
    assert all(abs(count - expected) < 5 * deviation for count in visible.values())


def test_what_is_hidden_depends_on_seed_id_and_epoch_and_not_on_the_rest_of_the_batch() -> None:
    ids, epochs = torch.arange(40), torch.arange(40) % 5
    whole = small().patch_order(ViewBatch([], ids, ids, epochs))
    some = torch.tensor([31, 2, 17])
    assert torch.equal(small().patch_order(ViewBatch([], some, ids[some], epochs[some])), whole[some])
    for other in (
        small(init_seed=1).patch_order(ViewBatch([], ids, ids, epochs)),
        small().patch_order(ViewBatch([], ids, ids + 100, epochs)),
        small().patch_order(ViewBatch([], ids, ids, epochs + 1)),
    ):
        assert (other != whole).any(dim=1).float().mean() > 0.9


def test_batches_that_do_not_say_their_epochs_are_of_the_first_one_or_outside_training_of_an_analysis() -> None:
    module, ids = small(), torch.arange(5)

    def order(epoch: int | None) -> Tensor:
        return module.patch_order(ViewBatch([], ids, ids, None if epoch is None else torch.full_like(ids, epoch)))

    assert torch.equal(order(None), order(0))
    module.eval()
    assert torch.equal(order(None), order(ANALYSIS))
    assert not torch.equal(order(0), order(ANALYSIS))


def test_the_encoder_computes_no_token_of_a_hidden_patch() -> None:
    module, batch = small(), view_batch(SIZE)
    lengths = []
    vit: Any = module.encoder
    for block in vit.blocks:
        block.register_forward_hook(lambda _, inputs, output: lengths.append((inputs[0].shape[1], output.shape[1])))
    module.embed_and_loss(batch)
    assert lengths == [(1 + 4, 1 + 4)] * 6


def test_pixels_of_hidden_patches_do_not_reach_the_encoder() -> None:
    module, batch = small(), view_batch(SIZE)
    order = module.patch_order(batch)
    view, other = batch.views[0], batch.views[0].clone()
    for image, numbers in zip(other, order, strict=True):
        for number in numbers[4:].tolist():
            patch_by_loops(image, number, 16).fill_(9.0)
    assert torch.equal(module.encode_visible(view, order), module.encode_visible(other, order))
    for image, numbers in zip(other, order, strict=True):
        patch_by_loops(image, int(numbers[0]), 16).fill_(9.0)
    assert not torch.equal(module.encode_visible(view, order), module.encode_visible(other, order))


def test_tokens_of_visible_patches_are_those_of_a_sequence_of_them_alone() -> None:
    module, batch = small(), view_batch(SIZE)
    vit: Any = module.encoder
    order = module.patch_order(batch)
    tokens = module.encode_visible(batch.views[0], order)
    for image, numbers, got in zip(batch.views[0], order, tokens, strict=True):
        sequence = [vit.cls_token[0, 0] + vit.pos_embed[0, 0]]
        for number in numbers[:4].tolist():
            conv = vit.patch_embed.proj
            patch = (conv.weight * patch_by_loops(image, number, 16)).sum((1, 2, 3)) + conv.bias
            sequence.append(patch + vit.pos_embed[0, 1 + number])
        last = vit.norm(vit.blocks(torch.stack(sequence)[None]))
        torch.testing.assert_close(got, last[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", [TINY_VIT, REGISTER_VIT])
def test_where_nothing_is_hidden_the_tokens_are_those_of_the_vit(encoder: str) -> None:
    module, view = small(encoder=encoder), view_batch(SIZE).views[0]
    module.num_visible = 16
    tokens = module.encode_visible(view, torch.arange(16).expand(4, 16))
    vit: Any = module.encoder
    torch.testing.assert_close(tokens, vit.fc_norm(vit.forward_features(view)), **NETWORK)


def test_the_decoder_sees_every_token_in_its_place_and_one_mask_token_elsewhere() -> None:
    module, batch = small(), view_batch(SIZE)
    order = module.patch_order(batch)
    tokens = torch.randn(4, 1 + 4, 64, generator=torch.Generator().manual_seed(2))
    painted = module.paint_hidden(tokens, order)
    decoder = module.decoder
    for got, image_tokens, numbers in zip(painted, tokens, order.tolist(), strict=True):
        sequence = [module.embed(image_tokens[0])]
        for number in range(16):
            place = numbers.index(number)
            sequence.append(module.embed(image_tokens[1 + place]) if place < 4 else decoder.mask_token[0, 0])
        decoded = decoder.norm(decoder.blocks(torch.stack(sequence)[None] + decoder.pos_embed))[0]
        for prediction, number in zip(got, numbers[4:], strict=True):
            torch.testing.assert_close(prediction, module.predict(decoded[1 + number]), rtol=1e-4, atol=1e-5)


def test_embedding_is_the_mean_of_the_visible_patches_tokens() -> None:
    module, batch = small(), view_batch(SIZE)
    tokens = module.encode_visible(batch.views[0], module.patch_order(batch))
    torch.testing.assert_close(module.embed_and_loss(batch)[1], tokens[:, 1:].mean(dim=1))


# The encoder


def test_the_encoder_is_the_plain_vit_before_and_after_a_step() -> None:
    module, batch = small(init_seed=3), view_batch(SIZE)
    plain = build_encoder(TINY_VIT, seed=3, image_size=SIZE)
    state = module.encoder.state_dict()
    assert list(state) == list(plain.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.state_dict().items())
    module.embed_and_loss(batch)[0].backward()
    with evaluating(module.encoder), evaluating(plain):
        torch.testing.assert_close(module.encoder(batch.views[0]), plain(batch.views[0]), **NETWORK)


@pytest.mark.parametrize("encoder", [TINY_VIT, REGISTER_VIT])
def test_gradient_reaches_every_parameter(encoder: str) -> None:
    assert_gradients_reach_exactly(small(encoder=encoder), view_batch(SIZE))


def test_both_members_start_from_the_same_weights_and_leave_the_global_generator_alone() -> None:
    assert_starts_from_its_seed(small)


@pytest.mark.parametrize(
    "encoder",
    ["resnet9", "timm:vit_tiny_r_s16_p8_224", "timm:test_vit3"],
    ids=["no ViT", "a stem that sees hidden patches", "pools with weights of its own"],
)
def test_only_plain_vits_are_taken(encoder: str) -> None:
    with pytest.raises(UserError, match=rf"^encoder='{encoder}': MAE hides patches from a plain ViT"):
        small(encoder=encoder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask_ratio": 0.0}, r"^mask_ratio=0\.0: 64 of 64 patches would be visible"),
        ({"mask_ratio": 1.0}, r"^mask_ratio=1\.0: 0 of 64 patches"),
        ({"mask_ratio": -3.0}, r"^mask_ratio=-3\.0"),
        ({"decoder_depth": 0}, r"^decoder_depth=0: must be 1 or more"),
        ({"decoder_dim": 0}, r"^decoder_dim=0: must be 1 or more"),
        ({"decoder_heads": 0}, r"^decoder_heads=0: must be 1 or more"),
        ({"decoder_dim": 34, "decoder_heads": 2}, r"^decoder_dim=34: must be a multiple of 4"),
        ({"decoder_dim": 36, "decoder_heads": 8}, r"^decoder_dim=36: must be a multiple of 4 and of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_numbers_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MAE(**options)  # type: ignore[arg-type]


def test_views_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match=r"^view_size=32: `model\.image_size` must be the same"):
        small().require_views(1, 32)
