"""What a recipe may say of the DICOM files it names. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_Pixel = Annotated[int, Field(strict=True, ge=0, le=65535)]


class Window(BaseModel):
    """In the file's units after rescaling, such as Hounsfield units."""

    model_config = _STRICT

    center: float = Field(description="a number, the value shown as middle grey")
    width: float = Field(ge=1, description="a number of 1 or more, from black to white")


class BurnedIn(BaseModel):
    """What makes images fit to be read that may show text. mask: blackened in every image."""

    model_config = _STRICT

    mask: tuple[tuple[_Pixel, _Pixel, _Pixel, _Pixel], ...] = Field(
        default=(), max_length=64, description="a list of boxes [x1, y1, x2, y2] in stored pixels"
    )
    attested_by: str | None = Field(
        default=None,
        pattern=r"^[^\x00-\x1f\x7f]{2,100}$",
        description="the name of the person who has seen that no image shows identifying text",
    )


class DicomOptions(BaseModel):
    """How DICOM files are read."""

    model_config = _STRICT

    window: Window | None = Field(
        default=None, description="a mapping like {center: 40, width: 400}"
    )
    burned_in: BurnedIn = Field(
        default=BurnedIn(), description="a mapping with mask, or attested_by"
    )
