"""The application: the JSON API, the page's files, and its reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from cir_plugins.errors import CIRError
from cir_plugins.search.index import Index
from cir_plugins.search.query import Hit, SearchQuery
from cir_plugins.service.batching import Batcher, BusyError
from cir_plugins.service.limits import Limits
from cir_plugins.service.page import PAGE_FILES, page_file
from cir_plugins.service.pictures import GoneError, Picture, Pictures, Side
from cir_plugins.service.reference import reference_page
from cir_plugins.service.requests import FORM, JSON, SearchRequest, read_body, read_query
from cir_plugins.service.security import COOKIE, Access, Guard

_EXAMPLES = 12  # indexed pictures that the page offers to start from
_KEPT_SECONDS = 3600  # by browsers, of a picture


class ErrorRecord(BaseModel):
    """What was wrong, and what is accepted."""

    error: str


class HitRecord(BaseModel):
    """An indexed picture that was found; its metadata are further members."""

    model_config = ConfigDict(extra="allow")

    id: str
    score: float = Field(description="Higher is closer.")
    path: str


class Hits(BaseModel):
    """Hits, best first."""

    hits: list[HitRecord]


class Health(BaseModel):
    """That the service answers."""

    status: str


class Service:
    """What the endpoints share.

    Args:
        index: The open index.
        limits: What a request may ask.
        access: The token.
        weighted: Whether queries may weigh the picture against the text.
    """

    def __init__(self, index: Index, limits: Limits, access: Access, *, weighted: bool) -> None:
        self.index = index
        self.limits = limits
        self.access = access
        self.weighted = weighted
        self.pictures = Pictures(index.picture)
        self.decoding = asyncio.Semaphore(limits.decoding)
        self.batcher: Batcher[SearchQuery, list[Hit]] = Batcher(
            index.search_many, most=limits.batch, waiting=limits.waiting
        )

    async def hits(self, query: SearchQuery) -> list[Hit]:
        """The hits of a query.

        Raises:
            HTTPException: 503 if too many queries wait.
            CIRError: If the index refuses the query.
        """
        try:
            return await self.batcher.answer(query)
        except BusyError as error:
            raise HTTPException(
                503, "too many queries wait; try again in a second", {"Retry-After": "1"}
            ) from error

    def description(self) -> dict[str, Any]:
        """What the page has to know of the index."""
        step = max(len(self.index) // _EXAMPLES, 1)
        fields = [
            {
                "name": field.name,
                "kind": field.kind,
                "values": list(field.values),
                "low": field.low,
                "high": field.high,
            }
            for field in self.index.fields.values()
        ]
        return {
            "summary": self.index.summary(),
            "fields": fields,
            "weight": self.weighted,
            "examples": list(self.index.ids[::step][:_EXAMPLES]),
            "limits": {
                "upload_bytes": self.limits.upload_bytes,
                "text": self.limits.text,
                "k": self.limits.k,
            },
        }


def make_app(
    index: Index, *, token: str = "", names: Collection[str] = (), limits: Limits | None = None
) -> Guard:
    """The application over an open index, behind its checks.

    Args:
        index: The index; one query of it is answered here, which loads what is loaded lazily.
        token: What requests must bring; empty where everybody may ask.
        names: Host names that requests may have; empty for any.
        limits: What a request may ask.

    Raises:
        CIRError: If the index cannot answer.
    """
    access = Access(token)
    service = Service(index, limits or Limits(), access, weighted=_is_weighted(index))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.batcher.close()

    app = FastAPI(
        title="Composed image search",
        description="Search of an index of pictures by picture, by text, and by both.",
        version="1",
        docs_url=None,  # these come from other servers
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_search(app, service)
    _add_rest(app, service)
    _add_session(app, service)
    _add_page(app)
    return Guard(app, access, names)


def _is_weighted(index: Index) -> bool:
    """Whether a query may have a weight; an index that answers no query at all is an error."""
    first = (index.ids[0],) if len(index) else ()
    try:
        index.search_many([SearchQuery(reference=first, text="red", k=1, weight=0.5)])
    except CIRError:
        index.search_many([SearchQuery(reference=first, text="red", k=1)])
        return False
    return True


def _failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, dict(headers or {}))


def _add_errors(app: FastAPI) -> None:
    """Every error in one form, without a traceback."""
    # Starlette's, which FastAPI's inherits from: routing raises it for unknown paths.
    from starlette.exceptions import HTTPException as AnyHTTPException

    @app.exception_handler(AnyHTTPException)
    async def http(_: Request, error: AnyHTTPException) -> Response:
        return _failure(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        return _failure(422, f"{place}: {first['msg']}")

    @app.exception_handler(GoneError)
    async def gone(_: Request, error: GoneError) -> Response:
        return _failure(410, str(error))

    @app.exception_handler(CIRError)
    async def refused(_: Request, error: CIRError) -> Response:
        return _failure(400, str(error))

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> Response:
        return _failure(500, "the service has a fault; its log says which")


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorRecord, "description": text}
    for status, text in (
        (400, "The body cannot be read, or the index refuses the query."),
        (401, "The token is missing or wrong."),
        (413, "The body or a picture is too large."),
        (415, "The body or a picture is of another type."),
        (422, "A field is missing, unknown or out of range."),
        (503, "Too many queries wait."),
    )
}


def _add_search(app: FastAPI, service: Service) -> None:
    schema = SearchRequest.model_json_schema()
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {**schema, "properties": {**schema["properties"], "image": files}}
    body = {"content": {JSON: {"schema": schema}, FORM: {"schema": form}}, "required": True}

    @app.post(
        "/api/search",
        response_model=Hits,
        responses=_REFUSALS,
        openapi_extra={"requestBody": body},
        summary="Search by picture, by text, or by both",
    )
    async def search(request: Request) -> Response:
        """The hits of a query, best first: those of cir search and of Index.search."""
        query = await read_query(request, service.limits, service.decoding)
        hits = await service.hits(query)
        return JSONResponse({"hits": [hit.to_dict() for hit in hits]})


def _add_rest(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_model=Health, summary="Whether the service answers")
    async def health() -> Response:
        """Says so; needs no token."""
        return JSONResponse({"status": "ok"})

    @app.get("/api/index", summary="What the index holds", responses={401: _REFUSALS[401]})
    async def describe() -> Response:
        """Pictures and method, the fields that filters may name, and what a query may ask."""
        return JSONResponse(service.description())

    @app.get(
        "/api/pictures/{id:path}",
        summary="An indexed picture",
        response_class=Response,
        responses={
            200: {"content": {"image/*": {}}, "description": "The picture."},
            401: _REFUSALS[401],
            404: {"model": ErrorRecord, "description": "The index has no such picture."},
            410: {"model": ErrorRecord, "description": "Its file has gone or is damaged."},
        },
    )
    def picture(
        request: Request,
        id: str,  # the name in the path, as the API has it
        side: Annotated[Side | None, Query(description="Longer side of a thumbnail.")] = None,
    ) -> Response:
        """The file as it is, or a thumbnail as JPEG."""
        try:
            found = service.pictures.picture(id, side)
        except GoneError:
            raise
        except CIRError as error:
            raise HTTPException(404, str(error)) from error
        return _picture_response(request, found)


def _add_session(app: FastAPI, service: Service) -> None:
    @app.post("/api/session", summary="A session of the page", responses={401: _REFUSALS[401]})
    async def session(request: Request) -> Response:
        """Sets the cookie that stands for the token, which is the whole body."""
        text = (await read_body(request, 1024, service.limits.body_seconds)).decode(
            "utf-8", "replace"
        )
        if not service.access.is_open and not service.access.is_token(text.strip()):
            return _failure(401, "the token is another one")
        response = JSONResponse({"status": "ok"})
        response.set_cookie(
            COOKIE,
            service.access.session,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response


def _picture_response(request: Request, picture: Picture) -> Response:
    headers = {
        "ETag": f'"{picture.tag}"',
        "Cache-Control": f"private, max-age={_KEPT_SECONDS}",
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(picture.content, media_type=picture.media_type, headers=headers)


def _add_page(app: FastAPI) -> None:
    for path, (name, media_type) in PAGE_FILES.items():
        app.add_api_route(path, _sender(page_file(name), media_type), include_in_schema=False)
    reference = reference_page(app.openapi()).encode()
    app.add_api_route("/docs", _sender(reference, "text/html"), include_in_schema=False)
    app.add_api_route("/favicon.ico", _sender(b"", "image/x-icon"), include_in_schema=False)


def _sender(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return send
