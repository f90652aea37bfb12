"""The real samplers against what is known exactly: Gaussian data, whose best denoiser is a line."""

import subprocess
import sys

import pytest

pytest.importorskip("torchsde")
import torch

from lib_memstab.lab.kdiffusion import sampling

MEAN = 0.7
SPREAD = 0.5
SIGMA_MIN = 0.005
SIGMA_MAX = 10.0

# torchsde, of its own rounding
pytestmark = pytest.mark.filterwarnings("ignore:Should have tb<=t1")


def denoiser(x, sigma, **extra):
    """E[data | x] for data N(MEAN, SPREAD^2) seen through noise of standard deviation `sigma` [B]."""
    variance = (sigma**2).view(-1, *[1] * (x.ndim - 1))
    return (SPREAD**2 * x + variance * MEAN) / (SPREAD**2 + variance)


def start(shape=(2, 4, 8, 8)):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return MEAN + noise * (SPREAD**2 + SIGMA_MAX**2) ** 0.5


def schedule(steps):
    return sampling.get_sigmas_karras(steps, SIGMA_MIN, SIGMA_MAX).double()


def exact(x):
    """Where the probability flow ODE takes `x` from SIGMA_MAX to 0."""
    return MEAN + (x - MEAN) * SPREAD / (SPREAD**2 + SIGMA_MAX**2) ** 0.5


def error_of(name, steps, **settings):
    """Largest distance from the exact path at its end."""
    x = start()
    result = getattr(sampling, name)(denoiser, x, schedule(steps), disable=True, **settings)
    return (result - exact(x)).abs().max().item()


@pytest.mark.parametrize(
    ("name", "order", "settings"),
    [
        ("sample_euler", 1, {}),
        ("sample_heun", 2, {}),
        ("sample_dpmpp_2m", 2, {}),
        ("sample_euler_ancestral", 1, {"eta": 0.0}),
        ("sample_dpmpp_sde", 2, {"eta": 0.0}),
        ("sample_lms", 2, {"order": 2}),
        ("sample_dpm_2", 2, {}),
        ("sample_dpm_2_ancestral", 2, {"eta": 0.0}),
        ("sample_dpmpp_2s_ancestral", 2, {"eta": 0.0}),
        ("sample_dpmpp_3m_sde", 2, {"eta": 0.0}),
    ],
)
def test_without_noise_of_its_own_a_sampler_follows_the_exact_path_at_its_order(name, order, settings):
    coarse, fine = error_of(name, 40, **settings), error_of(name, 80, **settings)
    assert fine < (0.05 if order == 1 else 0.005)
    assert coarse / fine == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize(("name", "steps"), [("sample_euler_ancestral", 240), ("sample_dpmpp_sde", 60)])
def test_with_noise_of_its_own_a_sampler_draws_from_the_data(name, steps):
    torch.manual_seed(2)
    result = getattr(sampling, name)(denoiser, start((1, 4, 64, 64)), schedule(steps), disable=True)
    assert result.mean().item() == pytest.approx(MEAN, abs=0.015)
    assert result.std().item() == pytest.approx(SPREAD, rel=0.03)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout


def test_it_is_the_installed_file_and_leaves_the_package_name_free():
    code = """
import sys
from lib_memstab.lab.kdiffusion import sampling
print(sampling.__file__)
print([name for name in sys.modules if name.split(".")[0] == "k_diffusion"])
"""
    file, entries = run(code).splitlines()
    assert file.replace("\\\\", "/").endswith("k_diffusion/sampling.py")
    assert entries == "[]"


def test_a_complete_package_that_is_there_already_is_the_one_used():
    code = """
import sys, types
whole = sys.modules["k_diffusion.sampling"] = types.ModuleType("k_diffusion.sampling")
from lib_memstab.lab.kdiffusion import sampling
print(sampling is whole)
"""
    assert run(code).strip() == "True"


def test_a_broken_installation_is_an_import_error_and_leaves_nothing_behind(tmp_path):
    package = tmp_path / "k_diffusion"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not run')")
    (package / "sampling.py").write_text("from . import utils\nutils.vanished(1)\n")
    (package / "utils.py").write_text("def append_dims(x, target_dims): pass\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
try:
    from lib_memstab.lab.kdiffusion import sampling
except ImportError as error:
    print(error)
print([name for name in sys.modules if "k_diffusion" in name])
"""
    message, entries = run(code).splitlines()
    assert "vanished" in message
    assert entries == "[]"
