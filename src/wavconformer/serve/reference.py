"""The OpenAPI description as a page to read: plain HTML without a program, as it loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any


def reference(description: Mapping[str, Any]) -> str:
    """The page."""
    about = description["info"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f"<title>{escape(about['title'])}: reference</title>",
            '<link rel="stylesheet" href="/static/reference.css"></head><body><main>',
            f"<h1>{escape(about['title'])} {escape(about['version'])}</h1>",
            *(f"<p>{escape(part)}</p>" for part in about["description"].strip().split("\n\n")),
            '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>',
            *(
                line
                for path, methods in description["paths"].items()
                for method, operation in methods.items()
                for line in _operation(method, path, operation)
            ),
            "</main></body></html>",
            "",
        ]
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
    yield f"<p>{escape(operation.get('summary', ''))} {escape(operation.get('description', ''))}</p>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        required = schema.get("required", [])
        yield f"<h3>{escape(media_type)}</h3><table><tr><th>Field</th><th>Type</th><th>What it is</th></tr>"
        for name, field in schema["properties"].items():
            mark = " *" if name in required else ""
            yield (
                f"<tr><td><code>{escape(name)}</code>{mark}</td><td>{escape(_type(field))}</td>"
                f"<td>{escape(field.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    answers = (
        f"<li><code>{status}</code> {escape(answer.get('description', ''))}</li>"
        for status, answer in operation.get("responses", {}).items()
    )
    yield f"<ul>{''.join(answers)}</ul></section>"


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " | ".join(_type(kind) for kind in field["anyOf"] if kind.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("const") or ("file" if field.get("format") == "binary" else field.get("type", "any")))
