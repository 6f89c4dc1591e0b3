"""Models under names, and what else MLflow's clients keep by id: logged models, traces, datasets, webhooks.

Times are integer milliseconds since 1970, as in :mod:`noria.records.tracking`.
"""

from __future__ import annotations

from typing import Any

import msgspec

STAGES = ("None", "Staging", "Production", "Archived")
MODEL_STATUSES = ("PENDING", "READY", "FAILED")
TRACE_STATES = ("STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS")


class RegisteredModel(msgspec.Struct, frozen=True):
    """A name for a line of versions.

    Attributes:
        last_version: the highest number ever given, so that none is given twice.
    """

    name: str
    created: int
    updated: int
    description: str = ""
    tags: dict[str, str] = {}
    last_version: int = 0


class RegisteredVersion(msgspec.Struct, frozen=True):
    """Version ``version`` of a registered model.

    Attributes:
        source: where the model came from, as the client said it.
        location: where its files are: the source, with references to other models followed.
        run: the run that made it ("" if unknown), ``run_link`` an address of that run elsewhere.
        model: the logged model it was registered from ("" if none).
        stage: one of ``STAGES``.
    """

    name: str
    version: int
    source: str
    location: str
    created: int
    updated: int
    run: str = ""
    run_link: str = ""
    model: str = ""
    user: str = ""
    description: str = ""
    status: str = "READY"
    stage: str = "None"
    tags: dict[str, str] = {}


class RegisteredAlias(msgspec.Struct, frozen=True):
    """``name@alias`` names one version."""

    name: str
    alias: str
    version: int


class LoggedModel(msgspec.Struct, frozen=True):
    """A model as a run logged it, before (or without) being registered.

    Attributes:
        id: ``m-`` and 32 hexadecimal characters.
        status: one of ``MODEL_STATUSES``.
        artifacts: where its files are, as clients are told.
        deleted: when it was deleted; None while it is there.
    """

    id: str
    experiment: int
    name: str
    artifacts: str
    created: int
    updated: int
    run: str = ""
    type: str = ""
    status: str = "PENDING"
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    deleted: int | None = None


class Trace(msgspec.Struct, frozen=True):
    """What is known of one traced call; its spans are an artifact of the experiment.

    Attributes:
        at: when it began; ``duration`` in ms, None while it goes on.
        state: one of ``TRACE_STATES``.
        runs: runs it was linked to; ``prompts`` the prompt versions (``name/version``).
        assessments: judgements of it, each the client's own document with its id and times.
    """

    id: str
    experiment: int
    at: int
    state: str
    duration: int | None = None
    client_id: str = ""
    request: str = ""
    response: str = ""
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    assessments: tuple[dict[str, Any], ...] = ()
    runs: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()


class EvaluationDataset(msgspec.Struct, frozen=True):
    """A named set of records to evaluate on.

    Attributes:
        id: ``d-`` and 32 hexadecimal characters.
        experiments: the experiments that use it.
        schema: the types seen by field, of ``inputs``, ``outputs`` and ``expectations``.
    """

    id: str
    name: str
    created: int
    updated: int
    created_by: str = ""
    updated_by: str = ""
    tags: dict[str, str] = {}
    experiments: tuple[int, ...] = ()
    schema: dict[str, Any] = {}


class EvaluationRecord(msgspec.Struct, frozen=True):
    """One record of an evaluation dataset; records of equal inputs are the same record.

    Attributes:
        id: ``dr-`` and 32 hexadecimal characters.
        key: digest of the inputs.
        body: inputs, outputs, expectations, tags and source, as the client sent them.
    """

    id: str
    dataset: str
    key: str
    created: int
    updated: int
    body: dict[str, Any]
    created_by: str = ""
    updated_by: str = ""


class Webhook(msgspec.Struct, frozen=True):
    """An address that wants to hear of changes to the registry.

    Attributes:
        events: ``entity.action`` each, such as ``model_version.created``.
        secret: signs what is sent; never shown again.
    """

    id: str
    name: str
    url: str
    events: tuple[str, ...]
    created: int
    updated: int
    description: str = ""
    secret: str = ""
    active: bool = True
