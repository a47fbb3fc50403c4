"""The OpenAPI document of the queries, made from the structs they answer with. Committed as docs/openapi.json."""

from typing import Any

import msgspec

from streams.query.answers import AssetLabels, Explanation, Neighbours, Problem, ReaderList, ReaderVector

LONGEST_KEY = 256

# path -> name of the key, what the key is, answer, operation, summary, whether the key has an owner
QUERIES: tuple[tuple[str, str, type, str, str, bool], ...] = (
    (
        "/users/{user}/recommendations",
        "user",
        ReaderList,
        "recommendations",
        "The list that a reader's newest click makes, with its reasons.",
        True,
    ),
    ("/users/{user}/vector", "user", ReaderVector, "vector", "A reader's vectors and last events.", True),
    ("/users/{user}/explain", "user", Explanation, "explain", "Every part of every score of a list.", True),
    (
        "/items/{item}/neighbours",
        "item",
        Neighbours,
        "neighbours",
        "What readers go on to after an item.",
        False,
    ),
    (
        "/labels/{asset}",
        "asset",
        AssetLabels,
        "labels",
        "The newest label of each task for an asset, of those that the worker keeps.",
        False,
    ),
)


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1 (its schemas are JSON Schema 2020-12, as msgspec writes them)."""
    answers = [query[2] for query in QUERIES]
    _, components = msgspec.json.schema_components(
        [*answers, Problem], ref_template="#/components/schemas/{name}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace queries",
            "version": version,
            "description": "Answered by any worker from its own state. A question about a reader of another worker's "
            "partition is redirected to that worker (307; send the token again: clients drop it when the host "
            "changes), or answered 503 with the partition while nobody owns it.",
        },
        "paths": {query[0]: {"get": _operation(*query[1:])} for query in QUERIES},
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "observe.token, where one is set",
                }
            },
        },
        "security": [{}, {"token": []}],
    }


def _operation(key: str, answer: type, name: str, summary: str, owned: bool) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": key,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
        }
    ]
    answers = {
        "200": _content("The answer, with its staleness.", answer.__name__, "application/json"),
        "400": _problem("The key is empty, too long or not UTF-8."),
        "401": _problem("A token is asked for, and was not given."),
        "404": _problem("Nothing is known about it."),
        "503": _problem("Whoever could answer is not known or not ready; ask again after Retry-After."),
    }
    if owned:
        parameters.append(
            {
                "name": "routed",
                "in": "query",
                "required": False,
                "description": "Set by redirects: do not send this question on again.",
                "schema": {"type": "string"},
            }
        )
        moved = _problem("Another worker owns the key; Location is the same question to it.")
        moved["headers"] = {"Location": {"schema": {"type": "string", "format": "uri"}}}
        answers["307"] = moved
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": dict(sorted(answers.items())),
    }


def _problem(description: str) -> dict[str, Any]:
    return _content(description, "Problem", "application/problem+json")


def _content(description: str, schema: str, media_type: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
