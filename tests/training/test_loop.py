from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datagen.errors import InputError, TrainingError
from datagen.generators import GENERATORS
from datagen.generators.cgan.sample import CganSampler
from datagen.generators.interface import Images, ModelConfig, Objective, Sampler, Update
from datagen.training.checkpoint import (
    Checkpoint,
    Progress,
    load_checkpoint,
    save_checkpoint,
)
from datagen.training.dataset import RealImages, load_real_images, split_held_out
from datagen.training.diversity import Diversity
from datagen.training.judge import HeldOutJudge, Judgement, sample_class
from datagen.training.loop import (
    BEST_FILE,
    LATEST_FILE,
    Trained,
    ema_decay,
    learning_rate,
    train,
)
from datagen.training.model_recipe import ModelRecipe, Schedule
from datagen.training.processes import Processes
from tests.training.tiny_data import CLASS_NAMES, NETWORKS, tiny_recipe, write_tiny_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_data(tmp_path / "data")


def config_of(recipe: ModelRecipe) -> ModelConfig:
    return ModelConfig(recipe.generator, CLASS_NAMES, (8, 8), 1, NETWORKS[recipe.generator])


def objective_of(recipe: ModelRecipe) -> Objective:
    spec = GENERATORS[recipe.generator]
    options = spec.objective_options.model_validate(recipe.objective)
    return spec.objective(config_of(recipe), options, seed=recipe.seed)


def run(
    recipe: ModelRecipe,
    folder: Path,
    *,
    objective: Objective | None = None,
    max_seconds: float | None = None,
) -> Trained:
    real = load_real_images(recipe.data)
    train_part, held_out = split_held_out(real, held_out=recipe.data.held_out, seed=recipe.seed)
    return train(
        recipe,
        objective or objective_of(recipe),
        train_part=train_part,
        judge=HeldOutJudge(train_part, held_out, config=config_of(recipe), seed=recipe.seed),
        folder=folder,
        max_seconds=max_seconds,
    )


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("generator", ["cgan", "edm"])
def test_a_run_is_a_function_of_its_recipe(generator: str, data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(generator, data, num_images=48)
    torch.manual_seed(1)
    first = run(recipe, tmp_path / "a")
    torch.manual_seed(2)
    second = run(recipe, tmp_path / "b")
    assert same(first.weights, second.weights)
    assert first.progress.history == second.progress.history
    other = run(recipe.model_copy(update={"seed": 4}), tmp_path / "c")
    assert not same(first.weights, other.weights)


class StopAt:
    """An objective that is interrupted, as by Ctrl-C, before one step."""

    def __init__(self, inner: Objective, step: int) -> None:
        self.inner, self.stop_at = inner, step
        self.state, self.load_state = inner.state, inner.load_state
        self.ema_weights, self.ema_sampler = inner.ema_weights, inner.ema_sampler

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        if update.step == self.stop_at:
            raise KeyboardInterrupt
        return self.inner.step(real, class_ids, update)


@pytest.mark.parametrize("generator", ["cgan", "edm", "vae"])
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(
    generator: str, data: Path, tmp_path: Path
) -> None:
    """Cut right after a checkpoint, between two, and after an evaluation without a checkpoint."""
    recipe = tiny_recipe(generator, data, num_images=96, evaluate_every_images=24)
    expected = run(recipe, tmp_path / "undisturbed")
    folder = tmp_path / "interrupted"
    for stop in (2, 3, 5, 10):
        with pytest.raises(KeyboardInterrupt):
            run(recipe, folder, objective=StopAt(objective_of(recipe), stop))
    found = run(recipe, folder)
    assert same(found.weights, expected.weights)
    assert found.progress.history == expected.progress.history
    assert found.progress.best_images_seen == expected.progress.best_images_seen
    final = [load_final(tmp_path / name) for name in ("undisturbed", "interrupted")]
    assert same(final[0], final[1])


def load_final(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / LATEST_FILE)


def test_a_prolonged_run_equals_one_that_was_long_from_the_start(
    data: Path, tmp_path: Path
) -> None:
    short = tiny_recipe("cgan", data, num_images=32)
    long = tiny_recipe("cgan", data, num_images=64)
    run(short, tmp_path / "a")
    assert same(run(long, tmp_path / "a").weights, run(long, tmp_path / "b").weights)


class NotANumber(StopAt):
    """An objective whose loss explodes at one step."""

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        return {"generator": float("nan") if update.step == self.stop_at else 1.0}


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe("cgan", data)
    run(tiny_recipe("cgan", data, num_images=32), tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.safetensors")}
    with pytest.raises(TrainingError, match="loss generator is not finite at step 6"):
        run(recipe, tmp_path, objective=NotANumber(objective_of(recipe), 5))
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.safetensors")} == before


def test_no_time_trains_no_step_and_returns_the_best_so_far(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("cgan", data)
    with pytest.raises(TrainingError, match="has kept no weights"):
        run(recipe, tmp_path, max_seconds=0)
    expected = run(tiny_recipe("cgan", data, num_images=32), tmp_path)
    before = (tmp_path / LATEST_FILE).read_bytes()
    found = run(recipe, tmp_path, max_seconds=0)
    assert same(found.weights, expected.weights)
    assert found.progress == expected.progress
    assert (tmp_path / LATEST_FILE).read_bytes() == before


def test_a_short_time_still_evaluates_and_saves(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("cgan", data, num_images=10**9)
    progress = run(recipe, tmp_path, max_seconds=1e-9).progress
    assert (progress.step, progress.images_seen, len(progress.history)) == (1, 8, 1)
    assert (tmp_path / LATEST_FILE).exists()


def test_the_best_weights_are_those_of_the_lowest_distance(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("cgan", data, num_images=96, evaluate_every_images=8)
    progress = run(recipe, tmp_path).progress
    best = min(progress.history, key=lambda entry: entry["kid"])
    assert progress.best_distance == best["kid"]
    assert progress.best_images_seen == best["images"]
    assert load_best(tmp_path, recipe).progress.images_seen == best["images"]


def load_best(folder: Path, recipe: ModelRecipe) -> Checkpoint:
    from datagen.training.model_recipe import model_recipe_digest

    kept = load_checkpoint(folder / BEST_FILE, recipe_digest=model_recipe_digest(recipe))
    assert kept is not None
    return kept


def test_a_checkpoint_of_another_recipe_is_refused(data: Path, tmp_path: Path) -> None:
    run(tiny_recipe("cgan", data, num_images=16), tmp_path)
    with pytest.raises(TrainingError, match="made by another model recipe"):
        run(tiny_recipe("cgan", data, learning_rate=2e-3), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "no progress"])
def test_a_damaged_checkpoint_is_named(damage: str, data: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    recipe = tiny_recipe("cgan", data, num_images=16)
    run(recipe, tmp_path)
    path = tmp_path / LATEST_FILE
    if damage == "no progress":
        save_file({"x": torch.zeros(1)}, path)
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "cut" else b"hello")
    with pytest.raises(TrainingError, match=f"{LATEST_FILE} is damaged"):
        run(recipe, tmp_path)


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    progress = Progress(3, 24, 1.5, 0.25, 16, [{"images": 8, "kid": 0.5}])
    state = {"a": torch.randn(2, 3).t(), "b": torch.tensor(7.0)}
    save_checkpoint(tmp_path / "c.safetensors", Checkpoint(progress, state), recipe_digest="d")
    found = load_checkpoint(tmp_path / "c.safetensors", recipe_digest="d")
    assert found is not None
    assert found.progress == progress
    assert same(found.state, state)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def schedule(**changes: float) -> Schedule:
    fields = {"num_images": 10**6, "batch_size": 100, "learning_rate": 0.5} | changes
    return Schedule.model_validate(fields)


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    plan = schedule(warmup_images=1000, decay_after_images=40_000)
    assert learning_rate(plan, 0) == pytest.approx(0.05)
    assert learning_rate(plan, 900) == learning_rate(plan, 40_000) == 0.5
    assert learning_rate(plan, 160_000) == pytest.approx(0.25)
    assert learning_rate(schedule(warmup_images=0), 0) == 0.5


def test_the_average_forgets_half_in_its_half_life() -> None:
    plan = schedule(ema_halflife_images=10_000, ema_rampup=0.1)
    assert ema_decay(plan, 0) == 0
    assert ema_decay(plan, 10**6) ** (10_000 / 100) == pytest.approx(0.5)
    assert ema_decay(plan, 20_000) ** (2000 / 100) == pytest.approx(0.5)


# --- stopping early -------------------------------------------------------------------------------


class Stuck:
    """An objective that learns nothing, and whose samples are the images given."""

    def __init__(self, inner: Objective, images: dict[int, Images]) -> None:
        self.inner, self.images = inner, images
        self.num_steps = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        self.num_steps += 1
        return {"loss": 1.0}

    def ema_sampler(self, batch_size: int) -> Sampler:
        return Replay(self.images)


def by_class(part: RealImages) -> dict[int, Images]:
    return {c: part.images[part.class_ids == c] for c in range(len(CLASS_NAMES))}


def test_a_training_that_gets_no_better_stops_and_stays_stopped(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("cgan", data, num_images=800, stop_after_evaluations=3)
    kids = iter([3.0, 2.0, 2.5, 2.5, 2.5])

    def judge(self: HeldOutJudge, sampler: Sampler) -> Judgement:
        shown = [np.zeros((1, 8, 8, 1), np.uint8)]
        return Judgement(next(kids), 1, None, Diversity({}), shown)

    monkeypatch.setattr(HeldOutJudge, "judge", judge)
    trained = run(recipe, tmp_path)
    assert trained.progress.images_seen == 5 * 32
    assert trained.progress.best_images_seen == 2 * 32
    assert "3 evaluations in a row" in trained.progress.stopped
    assert run(recipe, tmp_path).progress.images_seen == 5 * 32


def test_a_training_that_copies_stops_before_it_keeps_such_weights(
    data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe("cgan", data, num_images=800, max_copy_share=0.5)
    real = load_real_images(recipe.data)
    train_part, held_out = split_held_out(real, held_out=recipe.data.held_out, seed=recipe.seed)
    copying = Stuck(objective_of(recipe), by_class(train_part))
    with pytest.raises(TrainingError, match="100% of the samples single out one training image"):
        run(recipe, tmp_path / "copies", objective=copying)
    unseen = Stuck(objective_of(recipe), by_class(held_out))
    assert run(recipe, tmp_path / "unseen", objective=unseen).progress.images_seen == 800
    grids = sorted(path.name for path in (tmp_path / "unseen" / "grids").iterdir())
    assert grids[0] == "000000000032.png"
    assert len(grids) == 25


def test_patience_is_the_same_after_a_resume(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after an evaluation that was better than those before the last checkpoint."""
    recipe = tiny_recipe(
        "cgan", data, num_images=64, stop_after_evaluations=1,
        evaluate_every_images=8, checkpoint_every_images=24,
    )  # fmt: skip
    numbers: list[int] = []

    def judge(self: HeldOutJudge, sampler: Sampler) -> Judgement:
        shown = [np.zeros((1, 8, 8, 1), np.uint8)]
        return Judgement(100.0 - numbers[-1], 1, None, Diversity({}), shown)

    monkeypatch.setattr(HeldOutJudge, "judge", judge)

    class Counted(StopAt):
        def step(
            self, real: torch.Tensor, class_ids: torch.Tensor, update: Update
        ) -> dict[str, float]:
            numbers.append(update.step)
            return super().step(real, class_ids, update)

    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path, objective=Counted(objective_of(recipe), 5))
    resumed = run(recipe, tmp_path, objective=Counted(objective_of(recipe), -1))
    assert numbers == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7]
    assert resumed.progress.images_seen == resumed.progress.best_images_seen == 64


class Hungry(Stuck):
    """An objective whose samplers run out of memory above a batch of 10 images."""

    def ema_sampler(self, batch_size: int) -> Sampler:
        if batch_size > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().ema_sampler(batch_size)


class Full(Stuck):
    """An objective that has memory for two images, and averages as they all do."""

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        if len(real) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if update.average is not None:
            update.average([real])
        return {"loss": 1.0}


class Lonely(Processes):
    """The first of two, whose other never answers."""

    def average(self, gradients: list[torch.Tensor]) -> None:
        pytest.fail("it would wait for ever")


def test_the_batch_that_fits_is_sought_without_the_other_processes(
    data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe("cgan", data)
    real = load_real_images(recipe.data)
    with pytest.raises(TrainingError, match="batch_size 8: 4 fits"):
        train(
            recipe, Full(objective_of(recipe), {}), train_part=real, judge=None, folder=tmp_path,
            processes=Lonely(2, 0, "cpu"),
        )  # fmt: skip


def test_weights_are_judged_in_batches_that_fit(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("cgan", data, num_images=32)
    train_part, _ = split_held_out(load_real_images(recipe.data), held_out=60, seed=recipe.seed)
    hungry = Hungry(objective_of(recipe), by_class(train_part))
    assert run(recipe, tmp_path, objective=hungry).progress.best_images_seen == 32


# --- the schedule ---------------------------------------------------------------------------------


def test_the_learning_rate_falls_as_asked() -> None:
    def rates(**changes: Any) -> list[float]:
        schedule = Schedule(
            num_images=1000, batch_size=10, learning_rate=1.0, warmup_images=100,
            decay_after_images=250, **changes,
        )  # fmt: skip
        return [round(learning_rate(schedule, images), 3) for images in (0, 40, 500, 1000)]

    assert rates(decay="constant") == [0.1, 0.5, 1.0, 1.0]
    assert rates() == [0.1, 0.5, 0.707, 0.5]
    assert rates(decay="cosine") == [0.1, 0.498, 0.5, 0.0]


def test_a_training_of_fixed_length_is_not_prolonged(data: Path, tmp_path: Path) -> None:
    run(tiny_recipe("edm", data, num_images=32, decay="cosine"), tmp_path)
    with pytest.raises(TrainingError, match="another model recipe"):
        run(tiny_recipe("edm", data, num_images=64, decay="cosine"), tmp_path)


def test_gradients_are_clipped_to_the_norm_asked_for(data: Path, tmp_path: Path) -> None:
    whole = run(tiny_recipe("cgan", data, num_images=32), tmp_path / "a")
    clipped = run(tiny_recipe("cgan", data, num_images=32, max_grad_norm=1e-3), tmp_path / "b")
    assert not same(whole.weights, clipped.weights)


# --- a full disk ----------------------------------------------------------------------------------


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """As on a disk with no more room: writes past it fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_checkpoint(data: Path, tmp_path: Path) -> None:
    run(tiny_recipe("edm", data, num_images=32), tmp_path)
    before = (tmp_path / LATEST_FILE).read_bytes()
    recipe = tiny_recipe("edm", data, num_images=64)
    with (
        no_file_above(len(before) // 2),
        pytest.raises(TrainingError, match=r"checkpoint .* cannot be written"),
    ):
        run(recipe, tmp_path)
    assert (tmp_path / LATEST_FILE).read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))
    assert run(recipe, tmp_path).progress.images_seen == 64


def test_one_flipped_byte_of_a_checkpoint_is_found(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe("cgan", data, num_images=32)
    run(recipe, tmp_path)
    path = tmp_path / BEST_FILE
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"damaged .* remove the folder"):
        run(recipe, tmp_path)


# --- the judge ------------------------------------------------------------------------------------


class Replay:
    """A sampler that hands out given images of each class."""

    batch_size = 7

    def __init__(self, images: dict[int, Images]) -> None:
        self.images = images

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        pairs = zip(seeds, class_ids, strict=True)
        return np.stack([self.images[c][seed % len(self.images[c])] for seed, c in pairs])


@pytest.fixture
def parts(data: Path) -> tuple[RealImages, RealImages]:
    recipe = tiny_recipe("cgan", data)
    real = load_real_images(recipe.data)
    return split_held_out(real, held_out=100, seed=0)


def test_the_judge_tells_real_images_from_those_of_another_class(
    parts: tuple[RealImages, RealImages],
) -> None:
    train_part, held_out = parts
    config = config_of(tiny_recipe("cgan", Path("/")))
    judge = HeldOutJudge(train_part, held_out, config=config, seed=0)
    by_class = {c: train_part.images[train_part.class_ids == c] for c in range(3)}
    good = judge.judge(Replay(by_class)).kid
    bad = judge.judge(Replay({c: by_class[(c + 1) % 3] for c in range(3)})).kid
    floor = judge.floor()
    assert floor is not None
    assert abs(floor) < 0.1 * bad
    assert abs(good) < 0.1 * bad


def test_a_judge_without_held_out_pairs_is_refused(parts: tuple[RealImages, RealImages]) -> None:
    train_part, held_out = parts
    singles = held_out.take(np.array([list(held_out.class_ids).index(c) for c in range(3)]))
    with pytest.raises(InputError, match="hold no class twice"):
        HeldOutJudge(train_part, singles, config=config_of(tiny_recipe("cgan", Path("/"))), seed=0)


def test_sampling_a_class_takes_consecutive_seeds_in_any_batch_size(data: Path) -> None:
    recipe = tiny_recipe("cgan", data)
    sampler = objective_of(recipe).ema_sampler(4)
    assert isinstance(sampler, CganSampler)
    images = sample_class(sampler, 1, 10)
    assert np.array_equal(images[8:], sampler.sample([8, 9], [1, 1]))
