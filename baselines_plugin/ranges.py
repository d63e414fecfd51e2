"""Types of options with the range that they accept; checked where a component is planned."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

Count: TypeAlias = Annotated[int, Field(ge=1)]
Heads: TypeAlias = Annotated[int, Field(ge=1, le=1024)]
PerAnchor: TypeAlias = Annotated[int, Field(ge=1, le=1000)]
Width: TypeAlias = Annotated[int, Field(ge=1, le=65_536)]
WidthOrOwn: TypeAlias = Annotated[int, Field(ge=0, le=65_536)]
"""0 for the model's own, or none."""
TextLength: TypeAlias = Annotated[int, Field(ge=3, le=512)]
"""Tokens: the first, the last, and one word or more."""
ImageSize: TypeAlias = Annotated[int, Field(ge=32, le=4096)]
ImageSizeOrOwn: TypeAlias = Annotated[int, Field(ge=0, le=4096)]
"""Pixels; 0 for the model's own."""
Dropout: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
DropoutOrOwn: TypeAlias = Annotated[float, Field(ge=-1, lt=1)]
"""Below 0 for the model's own."""
Momentum: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Rate: TypeAlias = Annotated[float, Field(ge=0, le=1000)]
"""A learning rate, or the factor of one."""
Weight: TypeAlias = Annotated[float, Field(ge=0, le=1000)]
Scale: TypeAlias = Annotated[float, Field(gt=0, le=1000)]
Temperature: TypeAlias = Annotated[float, Field(gt=0, le=100)]
