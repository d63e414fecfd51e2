"""The API's reference as a page, made from its OpenAPI schema: no script, no other server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader

TEMPLATE = "reference.html.j2"


def reference_page(schema: Mapping[str, Any]) -> str:
    """HTML with every endpoint: its fields, its answers, and the errors it may give.

    Args:
        schema: An OpenAPI schema.
    """
    environment = Environment(
        loader=PackageLoader("cir_plugins.service", "page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template(TEMPLATE)
    return template.render(
        title=schema["info"]["title"],
        text=schema["info"].get("description", ""),
        endpoints=list(_endpoints(schema)),
    )


def _endpoints(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path, methods in schema["paths"].items():
        for method, endpoint in methods.items():
            yield {
                "method": method.upper(),
                "path": path,
                "summary": endpoint.get("summary", ""),
                "text": endpoint.get("description", ""),
                "fields": [*_parameters(endpoint), *_body_fields(endpoint)],
                "answers": [
                    (status, answer.get("description", ""))
                    for status, answer in endpoint["responses"].items()
                ],
            }


def _parameters(endpoint: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for parameter in endpoint.get("parameters", ()):
        yield _field(parameter["name"], parameter["schema"], parameter.get("description", ""))


def _body_fields(endpoint: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    content = endpoint.get("requestBody", {}).get("content", {})
    for body in content.values():
        for name, field in body["schema"].get("properties", {}).items():
            yield _field(name, field, field.get("description", ""))
        return  # JSON and form have the same fields


def _field(name: str, schema: Mapping[str, Any], text: str) -> dict[str, str]:
    kinds = [_kind(each) for each in schema.get("anyOf", [schema])]
    default = schema.get("default")
    return {
        "name": name,
        "accepted": " or ".join(kind for kind in kinds if kind != "null"),
        "default": "" if default in (None, "", []) else str(default),
        "text": text,
    }


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"])
    kind = str(schema.get("type", "text"))
    if kind == "array":
        return f"several of {_kind(schema.get('items', {}))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    return f"{kind} of {low:g} or more" if low is not None else kind
