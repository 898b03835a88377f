import pytest
import torch

from memlight.errors import UserError
from memlight.modules import Autoencoder
from tests.modules.tiny import assert_gradients_reach_exactly, assert_starts_from_its_seed, view_batch


def small(init_seed: int = 0) -> Autoencoder:
    return Autoencoder(image_size=16, init_seed=init_seed)


def test_loss_is_the_mean_over_pixels_of_what_the_decoder_paints_from_the_latents() -> None:
    module, batch = small().eval(), view_batch(16, images=2)
    painted = module.decoder(module.encoder.latents(batch.views[0]))
    pairs = zip(painted.flatten().tolist(), batch.views[0].flatten().tolist(), strict=True)
    each = [(a - b) ** 2 for a, b in pairs]
    loss, z = module.embed_and_loss(batch)
    assert loss.item() == pytest.approx(sum(each) / len(each), rel=1e-5)
    torch.testing.assert_close(z, module.encoder(batch.views[0]))


def test_an_image_is_painted_ever_better() -> None:
    module, batch = small(), view_batch(16, images=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = module.embed_and_loss(batch)[0]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    mean = batch.views[0].mean((2, 3), keepdim=True)
    assert losses[-1] < losses[0] / 4
    assert losses[-1] < torch.nn.functional.mse_loss(mean.expand_as(batch.views[0]), batch.views[0])


def test_gradient_reaches_every_parameter() -> None:
    assert_gradients_reach_exactly(small(), view_batch(32))


def test_both_members_start_from_the_same_weights_and_leave_the_global_generator_alone() -> None:
    assert_starts_from_its_seed(small)


@pytest.mark.parametrize(("num_views", "size", "flag"), [(1, 40, "view_size 40"), (2, 32, "num_views 2")])
def test_views_it_cannot_paint_are_refused(num_views: int, size: int, flag: str) -> None:
    with pytest.raises(UserError, match=flag.replace(" ", "=")):
        small().require_views(num_views, size)


def test_other_encoders_are_refused() -> None:
    with pytest.raises(UserError, match=r"encoder='resnet9'.*var_vqvae_ch32"):
        Autoencoder("resnet9")
