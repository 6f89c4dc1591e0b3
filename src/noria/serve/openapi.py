"""OpenAPI of the served models, from their signatures: what a web developer needs, without words of machine learning.

Source: OpenAPI Specification 3.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.records import BundleManifest, Field, Signature

__all__ = ["document"]

_TYPES: dict[str, dict[str, Any]] = {
    "Boolean": {"type": "boolean"},
    "Date": {"type": "string", "format": "date"},
    "Time": {"type": "string", "format": "time"},
    "Datetime": {"type": "string", "format": "date-time"},
    "Duration": {"type": "number", "description": "seconds"},
}
_PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "record": {"type": "integer"},
                    "field": {"type": "string"},
                    "problem": {"type": "string"},
                },
            },
        },
    },
}


_RECEIPT = {
    "type": "object",
    "properties": {
        "received": {"type": "integer"},
        "matched": {"type": "integer"},
        "unmatched": {"type": "array", "items": {"type": "string"}, "description": "Keys or ids; kept for later."},
    },
}
_RECORDED = {
    "type": "object",
    "properties": {
        "recorded": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "prediction": {"type": "string", "description": "The prediction's id."},
                    "given": {"description": "What the model had said."},
                },
            },
        }
    },
}
_REFUSALS = ("400", "401", "404", "413", "415", "422", "503")


def _given(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _field(field: Field) -> dict[str, Any]:
    base = field.dtype.split("(")[0]
    if base.startswith(("Int", "UInt")):
        schema: dict[str, Any] = {"type": "integer"}
    elif base.startswith(("Float", "Decimal")):
        schema = {"type": "number"}
    else:
        schema = dict(_TYPES.get(base, {"type": "string"}))
    if field.nullable or not field.required:
        schema["type"] = [schema["type"], "null"]
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


def _value(signature: Signature) -> dict[str, Any]:
    return {"enum": list(signature.classes)} if signature.classes else {"type": "number"}


def _answer(signature: Signature) -> dict[str, Any]:
    one: dict[str, Any] = {
        "id": {"type": "string", "description": "Names this prediction; labels and explanations are asked by it."},
        "version": {"type": "integer", "description": "The model version that answered."},
        "prediction": _value(signature),
    }
    if signature.classes:
        names = [str(name) for name in signature.classes]
        one["probabilities"] = {"type": "object", "properties": {name: {"type": "number"} for name in names}}
    return {
        "type": "object",
        "properties": {
            "loop": {"type": "string"},
            "predictions": {"type": "array", "items": {"type": "object", "properties": one}},
        },
    }


def _paths(name: str, signature: Signature) -> dict[str, Any]:
    record = {
        "type": "object",
        "required": [field.name for field in signature.inputs if field.required],
        "properties": {field.name: _field(field) for field in signature.inputs},
        "additionalProperties": False,
    }
    example = {field.name: field.example for field in signature.inputs if field.required or field.name == signature.key}
    body = {
        "oneOf": [
            {"type": "object", "required": ["records"], "properties": {"records": {"type": "array", "items": record}}},
            {"type": "array", "items": record},
            record,
        ]
    }
    refused = _given("What is wrong, and where.", _PROBLEM)
    owner = {"key": {"description": f"The record's {signature.key}."}} if signature.key else {}
    label = {
        "type": "object",
        "required": ["label"],
        "properties": {**owner, "id": {"type": "string"}, "label": _value(signature)},
    }
    override = {
        "type": "object",
        "required": ["value", "by", "reason"],
        "properties": {
            **owner,
            "id": {"type": "string"},
            "value": _value(signature),
            "by": {"type": "string", "description": "Who decided."},
            "reason": {"type": "string", "description": "Why."},
        },
    }
    return {
        f"/predict/{name}": {
            "post": {
                "operationId": f"predict_{name}",
                "summary": f"Ask '{name}' for predictions.",
                "parameters": [
                    {
                        "name": "version",
                        "in": "query",
                        "description": "The version to ask; the deployed ones by their shares without it.",
                        "schema": {"type": "integer"},
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": body, "example": {"records": [example]}}},
                },
                "responses": {
                    "200": _given("One prediction a record, in order.", _answer(signature)),
                    **dict.fromkeys((*_REFUSALS, "429", "504"), refused),
                },
            }
        },
        f"/labels/{name}": {
            "post": {
                "operationId": f"label_{name}",
                "summary": f"Tell '{name}' what turned out to be true.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {"type": "object", "properties": {"labels": {"type": "array", "items": label}}}
                        }
                    },
                },
                "responses": {
                    "200": _given("How many met their prediction.", _RECEIPT),
                    **dict.fromkeys(_REFUSALS, refused),
                },
            }
        },
        f"/overrides/{name}": {
            "post": {
                "operationId": f"override_{name}",
                "summary": f"Put on record what a person decided in place of '{name}'.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "properties": {"overrides": {"type": "array", "items": override}},
                            }
                        }
                    },
                },
                "responses": {
                    "200": _given("What is on record now.", _RECORDED),
                    **dict.fromkeys(_REFUSALS, refused),
                },
            }
        },
    }


def document(models: Mapping[str, BundleManifest], version: str) -> dict[str, Any]:
    """The OpenAPI document of some models, by name."""
    paths: dict[str, Any] = {}
    for name, manifest in models.items():
        paths |= _paths(name, manifest.signature)
    title = f"Predictions of {', '.join(models)}" if models else "Predictions"
    keys = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"securitySchemes": keys},
        "security": [{}, {"bearer": []}, {"key": []}],
    }
