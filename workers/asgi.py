"""The API as an ASGI application: datagen's, with Celery as its way to wake workers.

Called by uvicorn as a factory: workers.asgi:create.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datagen.settings import load_settings
from workers.waker import Waker

if TYPE_CHECKING:
    from fastapi import FastAPI


def create() -> FastAPI:
    from datagen.api.app import create_app

    settings = load_settings()
    waker = Waker(settings.broker_url)
    return create_app(settings, wake=waker.wake, ping_broker=waker.ping)
