"""Types of options with the range that they accept; checked where a component is planned."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

Count: TypeAlias = Annotated[int, Field(ge=1)]
CountOrNone: TypeAlias = Annotated[int, Field(ge=0)]
"""0 for none."""
TextLength: TypeAlias = Annotated[int, Field(ge=3, le=512)]
"""Tokens: the first, the last, and one word or more."""
ImageSize: TypeAlias = Annotated[int, Field(ge=0, le=4096)]
"""Pixels; 0 for the model's own."""
Dropout: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
DropoutOrOwn: TypeAlias = Annotated[float, Field(ge=-1, lt=1)]
"""Below 0 for the model's own."""
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Temperature: TypeAlias = Annotated[float, Field(gt=0, le=100)]
