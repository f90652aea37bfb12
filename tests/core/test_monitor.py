"""One job under watch: verdicts, untouched images, bad input, and nothing that waits for the device."""

import logging

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib_memstab.core.calibration import learn, on_grid
from lib_memstab.core.measurement import PathLength, measure
from lib_memstab.core.monitor import Monitor, Settings, heat
from lib_memstab.core.suppression import Rule, TextRows, Windows

SIGMAS = np.exp(np.linspace(np.log(14.6), np.log(0.03), 20))
GUIDANCE = 7.5


def evaluations(gains, seed=0, dtype=torch.float32):
    """Predictions of one denoiser run: sigma, eps_cond, eps_uncond per step; a row's gain scales its guidance term."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(gains), 4, 8, 8)
    direction = torch.randn(shape, generator=generator)
    for sigma in SIGMAS:
        uncond = torch.randn(shape, generator=generator)
        delta = torch.tensor(gains).view(-1, 1, 1, 1) * direction
        yield torch.full((len(gains),), float(sigma)), (uncond + delta).to(dtype), uncond.to(dtype)


@pytest.fixture(scope="module")
def region():
    curves = []
    for seed in range(64):
        path, lengths = PathLength(), []
        for sigma, cond, uncond in evaluations([0.02 + 0.0002 * seed], seed=100 + seed):
            measured = measure(sigma, cond, uncond)
            lengths.append(float(path.update(sigma, measured.update_norm(), measured.valid).log()))
        curves.append(on_grid(SIGMAS, np.array(lengths)))
    return learn(np.stack(curves))


def rows_of(count):
    torch.manual_seed(1)
    words = torch.arange(6)[None] < torch.full((count, 1), 3)
    return torch.randn(count, 6, 5), TextRows(torch.zeros(1, 6, 5), words)


def play(monitor, gains, dtype=torch.float32, spoil=None):
    """Run all evaluations through a monitor's hooks; what it made of the predictions, and of the text."""
    text, _ = rows_of(len(gains))
    answers, texts = [], []
    for step, (sigma, cond, uncond) in enumerate(evaluations(gains, dtype=dtype)):
        if spoil is not None and step == 5:
            cond[spoil, 0, 0, 0] = float("nan")
        texts.append(monitor.condition(text))
        eps = uncond + GUIDANCE * (cond - uncond)
        answer = monitor.evaluated(eps, sigma, cond, uncond, eps, lambda x, sigma, text: x)
        answers.append((eps, answer))
    return answers, texts


def monitor_of(region, mode="suppress", count=3):
    return Monitor(region, Settings(mode, 100.0, 1.0), Windows(), GUIDANCE, rows_of(count)[1])


def test_a_strong_guidance_term_is_flagged_and_the_rest_is_clear(region):
    monitor = monitor_of(region, mode="detect")
    answers, _ = play(monitor, [0.02, 0.3, 0.025])
    assert [report.verdict for report in monitor.reports(3)] == ["clear", "flagged", "clear"]
    assert all(answer is eps for eps, answer in answers)


def test_other_images_are_left_bit_identical(region):
    monitor = monitor_of(region)
    answers, texts = play(monitor, [0.02, 0.3, 0.025])
    original, _ = rows_of(3)
    for eps, answer in answers:
        assert torch.equal(eps[[0, 2]], answer[[0, 2]])
    assert any(not torch.equal(eps[1], answer[1]) for eps, answer in answers) or any(
        not torch.equal(text[1], original[1]) for text in texts
    )
    assert all(torch.equal(text[[0, 2]], original[[0, 2]]) for text in texts)
    reports = monitor.reports(3)
    assert [report.verdict for report in reports] == ["clear", "suppressed", "clear"]
    assert reports[1].steps.suppressed > 0
    assert reports[0].steps.suppressed == 0


def test_the_report_tells_what_happened(region):
    monitor = monitor_of(region)
    play(monitor, [0.02, 0.3, 0.025])
    clear, flagged, _ = monitor.reports(3, host="test")
    assert flagged.steps.first_outside == 1
    assert flagged.score > region.threshold(100) > clear.score
    assert flagged.p_value < 0.01 < clear.p_value
    assert len(flagged.trace.sigma) == len(SIGMAS) == flagged.steps.measured
    assert clear.trace.norm[0] < clear.trace.high[0]
    assert flagged.trace.norm[0] > flagged.trace.high[0]


def test_an_image_alone_gets_the_verdict_it_gets_in_a_batch(region):
    gains = [0.02, 0.3, 0.025]
    together = monitor_of(region, mode="detect")
    play(together, gains)
    for row, report in enumerate(together.reports(3)):
        alone = monitor_of(region, mode="detect", count=1)
        for sigma, cond, uncond in evaluations(gains):
            sigma, cond, uncond = sigma[row : row + 1], cond[row : row + 1], uncond[row : row + 1]
            eps = uncond + GUIDANCE * (cond - uncond)
            alone.evaluated(eps, sigma, cond, uncond, eps)
        [single] = alone.reports(1)
        assert single.verdict == report.verdict
        assert single.score == pytest.approx(report.score, abs=1e-5)


def test_values_that_are_not_finite_are_not_measured_and_stay_alone(region):
    monitor = monitor_of(region)
    answers, _ = play(monitor, [0.02, 0.3, 0.025], spoil=2)
    verdicts = [report.verdict for report in monitor.reports(3)]
    assert verdicts == ["clear", "suppressed", "not measured"]
    assert all(torch.equal(eps[2], answer[2]) or eps[2].isnan().any() for eps, answer in answers)
    assert "finite" in monitor.reports(3)[2].reason


def test_without_a_profile_nothing_is_measured_or_touched():
    monitor = monitor_of(None)
    answers, _ = play(monitor, [0.02, 0.3, 0.025])
    assert all(answer is eps for eps, answer in answers)
    assert {(report.verdict, report.reason) for report in monitor.reports(3)} == {("not measured", "no profile")}


def test_repeated_conditional_rows_are_not_measured(region):
    monitor = monitor_of(region)
    play(monitor, [0.0, 0.02, 0.02])
    assert [report.verdict for report in monitor.reports(3)] == ["not measured", "clear", "clear"]


@pytest.mark.parametrize(("skipped", "verdict"), [(1, "flagged"), (5, "not measured")])
def test_a_path_without_its_beginning_is_not_measured(region, skipped, verdict):
    monitor = monitor_of(region, mode="detect")
    for step, (sigma, cond, uncond) in enumerate(evaluations([0.3] * 3)):
        seen = uncond if step < skipped else cond
        monitor.evaluated(uncond, sigma, seen, uncond, uncond)
    assert {report.verdict for report in monitor.reports(3)} == {verdict}
    missing = "the first evaluations had no separate predictions"
    assert all((missing in report.reason) == (verdict == "not measured") for report in monitor.reports(3))


def test_a_job_that_ends_before_its_first_evaluation_is_not_measured(region):
    assert [report.verdict for report in monitor_of(region).reports(2, partial=(0, 20))] == ["not measured"] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_keep_their_type_and_their_verdicts(region, dtype):
    monitor = monitor_of(region)
    answers, _ = play(monitor, [0.02, 0.3, 0.025], dtype=dtype)
    assert all(answer.dtype == dtype for _, answer in answers)
    assert monitor.reports(3)[1].verdict == "suppressed"


def test_an_empty_batch_has_no_reports(region):
    monitor = monitor_of(region, count=0)
    play(monitor, [])
    assert monitor.reports(0) == []


def test_at_strength_zero_a_flag_is_told_and_nothing_is_touched(region):
    monitor = Monitor(region, Settings("suppress", 100.0, 0.0), Windows(0.0), GUIDANCE, rows_of(3)[1])
    answers, texts = play(monitor, [0.02, 0.3, 0.025])
    assert all(answer is eps for eps, answer in answers)
    assert all(torch.equal(text, rows_of(3)[0]) for text in texts)
    assert [report.verdict for report in monitor.reports(3)] == ["clear", "flagged", "clear"]


class Broken(Rule):
    name = "broken"

    def guide(self, evaluation, flags):
        raise RuntimeError("no such tensor")


def test_an_inner_error_leaves_the_picture_alone_and_is_logged_once(region, caplog):
    monitor = Monitor(region, Settings(), Broken(), GUIDANCE, rows_of(2)[1])
    with caplog.at_level(logging.WARNING, logger="memstab"):
        answers, _ = play(monitor, [0.3, 0.02])
    assert all(answer is eps for eps, answer in answers)
    assert len(caplog.records) == 1
    assert {report.verdict for report in monitor.reports(2)} == {"not measured"}
    assert "no such tensor" in monitor.reports(2)[0].reason


class HostWaits(TorchDispatchMode):
    """Counts operations that make the host wait for a device: reading a value, or a size that depends on values."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in self.NAMES
        return func(*args, **(kwargs or {}))


def test_the_counter_of_host_waits_counts():
    with HostWaits() as waits:
        float(torch.ones(1))
        bool(torch.ones(2).any())
    assert waits.count == 2


@pytest.mark.parametrize("mode", ["suppress", "detect"])
def test_without_likeness_the_loop_never_makes_the_host_wait(region, mode):
    monitor = monitor_of(region, mode=mode)
    with HostWaits() as waits:
        play(monitor, [0.02, 0.3, 0.025])
    assert waits.count == 0


def test_a_flagged_image_says_where_the_prompt_pulled(region):
    monitor = Monitor(region, Settings("detect"), Rule(), GUIDANCE)
    for sigma, cond, uncond in evaluations([0.02, 0.02]):
        local = cond.clone()
        local[1, :, 2:4, 5:7] += 3 * (cond - uncond).abs().amax() + 1
        monitor.evaluated(cond, sigma, local, uncond, cond)
    clear, flagged = monitor.reports(2)
    assert (clear.verdict, flagged.verdict) == ("clear", "flagged")
    assert clear.heat is None
    assert (flagged.heat.height, flagged.heat.width) == (8, 8)
    hot = np.array(flagged.heat.values).reshape(8, 8) > 0.5
    assert hot[2:4, 5:7].all()
    assert hot.sum() == 4


@pytest.mark.parametrize(("size", "expected"), [((64, 48), (16, 16)), ((8, 24), (8, 16)), ((5, 5), (5, 5))])
def test_the_map_is_small_whatever_the_picture(size, expected):
    found = heat(torch.randn(2, 4, *size).half())
    assert tuple(found.shape) == (2, *expected)
    assert found.dtype == torch.float32


def test_a_part_that_pulls_hard_at_first_flags_its_image_and_later_it_does_not(region):
    found = {}
    for loud_from, loud_until in ((0, 2), (6, 10)):
        monitor = monitor_of(region, mode="detect")
        for index, (sigma, cond, uncond) in enumerate(evaluations([0.02] * 3)):
            hardest = measure(sigma, cond, uncond).update_norm()
            hardest[1] *= 3.0 if loud_from <= index < loud_until else 1.0
            monitor.evaluated(cond, sigma, cond, uncond, uncond, hardest=hardest)
        found[loud_from] = monitor.reports(3)
    assert [report.verdict for report in found[0]] == ["clear", "flagged", "clear"]
    assert found[0][1].steps.first_outside == 1
    assert [report.verdict for report in found[6]] == ["clear"] * 3
