"""The OpenAPI 3.1 document: what FastAPI derives, plus the one shape of all problems.

Called by app.py; clients, the contract tests and documentation read /v1/openapi.json.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from datagen.api.problems import Problem

_FRAMEWORKS_OWN = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> None:
    """Must come after all routers."""
    derive = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = derive()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name in _FRAMEWORKS_OWN:
                schemas.pop(name, None)
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs")
            schemas["Problem"] = problem
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
