"""What the metrics page counts."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import update

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import NewJob, PinnedModel, create_job
from datagen.catalog.measures import measure_work
from datagen.catalog.rows import GENERATE, NewUnit
from datagen.catalog.schema import migrate
from datagen.catalog.tables import units


def test_images_count_for_the_model_that_drew_them_not_for_its_conditioner(tmp_path: Path) -> None:
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.sqlite3'}")
    migrate(catalog)
    new = NewJob(
        name="small",
        recipe_digest="a" * 64,
        recipe_body="{}",
        model=PinnedModel("b" * 64, "drawer", "edm", "{}"),
        conditioner=PinnedModel("d" * 64, "maps", "condition_set", "{}"),
        context_digest="c" * 64,
        context_body="{}",
        fingerprint="{}",
        unit_size=2,
        batch_size=2,
    )
    create_job(catalog, new, [NewUnit(GENERATE, 0, 0, None)])
    with catalog.transaction() as connection:
        connection.execute(update(units).values(num_generated=5))
    measured = measure_work(catalog).models
    catalog.close()
    assert [(each.name, each.num_generated) for each in measured] == [("drawer", 5)]
