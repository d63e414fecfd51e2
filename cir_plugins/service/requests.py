"""Requests as queries: a JSON body or a form, read into memory and never onto a disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import HTTPException, Request
from PIL.Image import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from cir_plugins.data.images import decode_image
from cir_plugins.errors import CIRError, shown
from cir_plugins.files import parse_json
from cir_plugins.search.query import SearchQuery
from cir_plugins.service.limits import MIB, Limits

FORM, JSON = "multipart/form-data", "application/json"
# With a body that was not read to its end; the server would go on reading it.
_CLOSE = {"Connection": "close"}
_SEVERAL = frozenset({"image", "reference", "exclude"})


def _as_list(value: object) -> object:
    return [] if value is None else value if isinstance(value, list) else [value]


Several = Annotated[list[str], BeforeValidator(_as_list)]


class SearchRequest(BaseModel):
    """A query: pictures, a text, or both.

    In a form ``image`` is an uploaded file; ``image`` and ``reference`` may be there several times.
    """

    model_config = ConfigDict(extra="forbid")

    image: Several = Field([], description="Uploaded pictures; in JSON their bytes in base64.")
    reference: Several = Field([], description="Ids of indexed pictures to start from.")
    exclude: Several = Field([], description="Ids that are no hits, such as the reference's.")
    text: str = Field("", description="What to change, or what to look for.")
    k: int = Field(10, ge=1, description="Number of hits.")
    filter: str = Field("", description="Condition on the metadata: price < 50 and brand == 'x'.")
    weight: float | None = Field(
        None, ge=0, le=1, description="Share of the text beside the picture, where it can be set."
    )


class _InMemoryParser(MultiPartParser):
    """A parser of forms whose files never leave the memory; the body's length is bounded before."""

    spool_max_size = 2**62


async def read_query(request: Request, limits: Limits, turn: asyncio.Semaphore) -> SearchQuery:
    """The query of a request.

    Args:
        request: A POST with a JSON body or a form.
        limits: What is accepted.
        turn: Bounds the pictures that are decoded at a time.

    Raises:
        HTTPException: 400, 408, 413, 415 or 422, with what is accepted.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        values = _json_values(await read_body(request, limits.json_bytes, limits.body_seconds))
        uploads = [_from_base64(each) for each in _as_texts(values.get("image"))]
    elif kind == FORM:
        body = await read_body(request, limits.form_bytes, limits.body_seconds)
        form = await _form(request, body, limits)
        try:
            values, uploads = _form_values(form)
        finally:
            await form.close()
    else:
        raise HTTPException(415, f"Content-Type cannot be {kind!r}; accepted: {FORM} or {JSON}")
    parsed = _validated({**values, "image": []}, limits)
    if len(uploads) + len(parsed.reference) > limits.pictures:
        raise HTTPException(422, f"too many pictures; accepted: up to {limits.pictures} of a query")
    if not (uploads or parsed.reference or parsed.text):
        raise HTTPException(422, "nothing to search for; accepted: image, reference, text")
    pictures = [await _decoded(each, limits, turn) for each in uploads]
    return SearchQuery(
        image=pictures or None,
        text=parsed.text,
        reference=tuple(parsed.reference),
        k=parsed.k,
        filter=parsed.filter,
        weight=parsed.weight,
        exclude=tuple(parsed.exclude),
    )


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request.

    Raises:
        HTTPException: 413 if it is longer than ``most`` bytes, 408 if it takes longer than
            ``seconds``, 400 if it ends early.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise _too_long(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_long(most)
                parts.append(part)
    except TimeoutError as error:
        message = f"the body took longer than {seconds:.0f} seconds"
        raise HTTPException(408, message, _CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the body ended early") from error
    return b"".join(parts)


def _too_long(most: int) -> HTTPException:
    return HTTPException(413, f"the body is too long; accepted: up to {most / MIB:.0f} MiB", _CLOSE)


def _json_values(body: bytes) -> dict[str, Any]:
    try:
        values = parse_json(body.decode(), "the body")
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is not UTF-8 text (byte {error.start})") from error
    except CIRError as error:
        raise HTTPException(400, str(error)) from error
    if not isinstance(values, dict):
        raise HTTPException(422, "the body is no JSON object; accepted: {'text': ..., ...}")
    return values


def _as_texts(value: object) -> list[str]:
    texts = _as_list(value)
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise HTTPException(422, "image: no text; accepted: the bytes of a picture in base64")
    return texts


def _from_base64(text: str) -> bytes:
    """Bytes of a picture; a data URL's head is left out."""
    head, comma, rest = text.partition(",") if text.startswith("data:") else ("", "", text)
    if head and not comma:
        raise HTTPException(422, "image: a data URL without data")
    try:
        return base64.b64decode(rest, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, "image: no base64; accepted: a picture's bytes in it") from error


async def _form(request: Request, body: bytes, limits: Limits) -> FormData:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemoryParser(
        request.headers,
        stream(),
        max_files=limits.pictures,
        max_fields=16 + limits.k,
        max_part_size=64 * 1024,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from error
    except (ValueError, LookupError) as error:
        raise HTTPException(400, "the form cannot be read: its header is damaged") from error


def _form_values(form: FormData) -> tuple[dict[str, Any], list[bytes]]:
    """Values by field, and the uploaded files."""
    values: dict[str, Any] = {}
    uploads: list[bytes] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "image":
                raise HTTPException(422, f"{shown(name)} is no file; accepted: a file as 'image'")
            content = value.file.read()
            if content or value.filename:  # browsers send a nameless one where none was chosen
                uploads.append(content)
        elif name == "image":
            raise HTTPException(422, "image is no text; accepted: a file, or JSON with base64")
        elif name in _SEVERAL:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise HTTPException(422, f"{shown(name)} is there twice; accepted: once")
        elif value or name not in ("weight", "k"):
            values[name] = value
    return values, uploads


def _validated(values: dict[str, Any], limits: Limits) -> SearchRequest:
    try:
        parsed = SearchRequest.model_validate(values)
    except ValidationError as error:
        raise HTTPException(422, validation_message(error)) from error
    parsed.text = parsed.text.strip()
    parsed.filter = parsed.filter.strip()
    for name, most in (("text", limits.text), ("filter", limits.filter)):
        if len(getattr(parsed, name)) > most:
            raise HTTPException(422, f"{name} is too long; accepted: up to {most} characters")
    if len(parsed.exclude) > limits.k:
        raise HTTPException(422, f"exclude is too long; accepted: up to {limits.k} ids")
    if parsed.k > limits.k:
        raise HTTPException(422, f"k cannot be {parsed.k}; accepted: 1 to {limits.k}")
    for name, text in _texts_of(parsed):
        if not _is_unicode(text):
            raise HTTPException(422, f"{name} holds half a surrogate pair; accepted: Unicode text")
    return parsed


def _texts_of(parsed: SearchRequest) -> list[tuple[str, str]]:
    named = [("text", parsed.text), ("filter", parsed.filter)]
    for name in ("reference", "exclude"):
        named += [(name, each) for each in getattr(parsed, name)]
    return named


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def validation_message(error: ValidationError) -> str:
    """The faults of a request, each with its field and what was found, in one line."""
    faults = []
    for fault in error.errors(include_url=False)[:5]:
        place = ".".join(str(each)[:100] for each in fault["loc"]) or "the body"
        if fault["type"] == "extra_forbidden":
            accepted = ", ".join(SearchRequest.model_fields)
            faults.append(f"{shown(place)} is no field; accepted: {accepted}")
        else:
            faults.append(f"{place} cannot be {shown(fault['input'], 80)}: {fault['msg']}")
    return "; ".join(faults)


async def _decoded(content: bytes, limits: Limits, turn: asyncio.Semaphore) -> Image:
    if len(content) > limits.upload_bytes:
        most = f"{limits.upload_bytes / MIB:.0f} MiB"
        raise HTTPException(413, f"the uploaded picture is too large; accepted: up to {most}")
    async with turn:
        try:
            return await asyncio.to_thread(
                decode_image,
                content,
                "the uploaded picture",
                formats=limits.formats,
                most_pixels=limits.upload_pixels,
            )
        except CIRError as error:
            raise HTTPException(415, str(error)) from error
