"""The messages of the Open Inference Protocol over gRPC, made from their field numbers.

Source: ``grpc_predict_v2.proto`` of the Open Inference Protocol, with the repository, configuration and statistics
calls of Triton's ``grpc_service.proto``. They live in a pool of their own: a client in the same process may have
generated the same names.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["SERVICE", "message"]

SERVICE = "inference.GRPCInferenceService"
_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _F.TYPE_BOOL, "int32": _F.TYPE_INT32, "int64": _F.TYPE_INT64, "uint32": _F.TYPE_UINT32,
    "uint64": _F.TYPE_UINT64, "float": _F.TYPE_FLOAT, "double": _F.TYPE_DOUBLE, "string": _F.TYPE_STRING,
    "bytes": _F.TYPE_BYTES,
}  # fmt: skip

# name: {field: (number, type)}; "*" repeated, "{}" a map from text, "|" one of several
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "*string")},
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "*int64")},
    "ModelMetadataResponse": {
        "name": (1, "string"), "versions": (2, "*string"), "platform": (3, "string"),
        "inputs": (4, "*TensorMetadata"), "outputs": (5, "*TensorMetadata"),
    },
    "InferParameter": {
        "bool_param": (1, "|bool"), "int64_param": (2, "|int64"), "string_param": (3, "|string"),
        "double_param": (4, "|double"), "uint64_param": (5, "|uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "*bool"), "int_contents": (2, "*int32"), "int64_contents": (3, "*int64"),
        "uint_contents": (4, "*uint32"), "uint64_contents": (5, "*uint64"), "fp32_contents": (6, "*float"),
        "fp64_contents": (7, "*double"), "bytes_contents": (8, "*bytes"),
    },
    "InferTensor": {
        "name": (1, "string"), "datatype": (2, "string"), "shape": (3, "*int64"),
        "parameters": (4, "{}InferParameter"), "contents": (5, "InferTensorContents"),
    },
    "InferRequestedOutput": {"name": (1, "string"), "parameters": (2, "{}InferParameter")},
    "ModelInferRequest": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"),
        "parameters": (4, "{}InferParameter"), "inputs": (5, "*InferTensor"),
        "outputs": (6, "*InferRequestedOutput"), "raw_input_contents": (7, "*bytes"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"), "model_version": (2, "string"), "id": (3, "string"),
        "parameters": (4, "{}InferParameter"), "outputs": (5, "*InferTensor"), "raw_output_contents": (6, "*bytes"),
    },
    "ModelInput": {"name": (1, "string"), "data_type": (2, "int32"), "dims": (4, "*int64")},
    "ModelOutput": {"name": (1, "string"), "data_type": (2, "int32"), "dims": (3, "*int64")},
    "ModelConfig": {
        "name": (1, "string"), "platform": (2, "string"), "max_batch_size": (4, "int32"),
        "input": (5, "*ModelInput"), "output": (6, "*ModelOutput"), "backend": (17, "string"),
    },
    "ModelConfigRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelConfigResponse": {"config": (1, "ModelConfig")},
    "StatisticDuration": {"count": (1, "uint64"), "ns": (2, "uint64")},
    "InferStatistics": {
        "success": (1, "StatisticDuration"), "fail": (2, "StatisticDuration"), "queue": (3, "StatisticDuration"),
        "compute_input": (4, "StatisticDuration"), "compute_infer": (5, "StatisticDuration"),
        "compute_output": (6, "StatisticDuration"),
    },
    "ModelStatistics": {
        "name": (1, "string"), "version": (2, "string"), "last_inference": (3, "uint64"),
        "inference_count": (4, "uint64"), "execution_count": (5, "uint64"), "inference_stats": (6, "InferStatistics"),
    },
    "ModelStatisticsRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelStatisticsResponse": {"model_stats": (1, "*ModelStatistics")},
    "ModelRepositoryParameter": {
        "bool_param": (1, "|bool"), "int64_param": (2, "|int64"), "string_param": (3, "|string"),
        "bytes_param": (4, "|bytes"),
    },
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "ModelIndex": {"name": (1, "string"), "version": (2, "string"), "state": (3, "string"), "reason": (4, "string")},
    "RepositoryIndexResponse": {"models": (1, "*ModelIndex")},
    "RepositoryModelLoadRequest": {
        "repository_name": (1, "string"), "model_name": (2, "string"),
        "parameters": (3, "{}ModelRepositoryParameter"),
    },
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": {
        "repository_name": (1, "string"), "model_name": (2, "string"),
        "parameters": (3, "{}ModelRepositoryParameter"),
    },
    "RepositoryModelUnloadResponse": {},
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "int32")},  # an enumeration: the same bytes
}  # fmt: skip


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="noria/inference.proto", package="inference", syntax="proto3")
    for name, fields in _MESSAGES.items():
        made = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add(made, name, field, number, kind)
    return file


def _add(made: Any, owner: str, field: str, number: int, kind: str) -> None:
    one = made.field.add(name=field, number=number, label=_F.LABEL_OPTIONAL)
    if kind.startswith("*"):
        one.label, kind = _F.LABEL_REPEATED, kind[1:]
    elif kind.startswith("|"):
        if not made.oneof_decl:
            made.oneof_decl.add(name="parameter_choice")
        one.oneof_index, kind = 0, kind[1:]
    elif kind.startswith("{}"):
        entry = made.nested_type.add(name="".join(part.title() for part in field.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_F.LABEL_OPTIONAL, type=_F.TYPE_STRING)
        entry.field.add(
            name="value", number=2, label=_F.LABEL_OPTIONAL, type=_F.TYPE_MESSAGE, type_name=f".inference.{kind[2:]}"
        )
        one.label, one.type = _F.LABEL_REPEATED, _F.TYPE_MESSAGE
        one.type_name = f".inference.{owner}.{entry.name}"
        return
    if kind in _SCALARS:
        one.type = _SCALARS[kind]
    else:
        one.type, one.type_name = _F.TYPE_MESSAGE, f".inference.{kind}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))
