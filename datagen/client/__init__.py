"""The client of a service: `Client`, and `AsyncClient` with the same methods to be awaited.

    from datagen.client import Client

    with Client("https://datagen.example", api_key="dg_...") as client:
        job = client.wait(client.submit("recipe.yaml").id)
        client.pull(f"{job.name}@{job.version}", "fashion", layout="imagefolder")

calls.py says what each request is and what its answer means; client.py and async_client.py send
them. Called by the command line and by users' programs.
"""

from __future__ import annotations

from datagen.client.async_client import AsyncClient
from datagen.client.client import Client
from datagen.client.problems import RefusedError, ServiceUnavailableError

__all__ = ["AsyncClient", "Client", "RefusedError", "ServiceUnavailableError"]
