import torch
from hypothesis import given
from hypothesis import strategies as st

from synood_cli.method.seeds import image_noise, image_seed

CAT = 8_216_633_919_211_892_826
ANY_NAME = st.text(st.characters(codec=None))


def test_seeds_are_the_same_on_every_platform():
    # sha256 of "0", NUL, "cat.jpg": its first 63 bits, worked out with another tool
    assert image_seed(0, "cat.jpg") == CAT
    assert image_seed(1, "cat.jpg") != CAT
    assert image_seed(0, "cat.jpeg") != CAT


def test_run_seed_and_key_cannot_run_into_each_other():
    assert image_seed(1, "1.jpg") != image_seed(11, ".jpg")


@given(st.integers(0, 2**63), ANY_NAME, ANY_NAME)
def test_any_name_has_a_seed_of_63_bits(run_seed, one, other):
    seed = image_seed(run_seed, one)
    assert 0 <= seed < 2**63
    assert (image_seed(run_seed, other) == seed) == (one == other)


def test_noise_is_standard_normal_reproducible_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    noise = image_noise(2**63 - 1, (4, 64, 64))
    assert torch.equal(torch.get_rng_state(), state)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, image_noise(2**63 - 1, (4, 64, 64)))
    assert not torch.equal(noise, image_noise(2**63 - 2, (4, 64, 64)))
    assert abs(noise.mean().item()) < 0.03
    assert abs(noise.std().item() - 1) < 0.03
