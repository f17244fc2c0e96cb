"""etcd's messages as the protobuf library has them, from the field numbers that etcd publishes.

Sources: etcd api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto; only the fields that we use.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# NAME TYPE NUMBER, `*` repeated, `|` part of the message's oneof.
MESSAGES = {
    "ResponseHeader": "cluster_id uint64 1, member_id uint64 2, revision int64 3, "
    "raft_term uint64 4",
    "KeyValue": "key bytes 1, create_revision int64 2, mod_revision int64 3, version int64 4, "
    "value bytes 5, lease int64 6",
    "Event": "type int32 1, kv KeyValue 2, prev_kv KeyValue 3",
    "RangeRequest": "key bytes 1, range_end bytes 2, limit int64 3, revision int64 4, "
    "sort_order int32 5, sort_target int32 6, serializable bool 7, keys_only bool 8, "
    "count_only bool 9, min_mod_revision int64 10, max_mod_revision int64 11",
    "RangeResponse": "header ResponseHeader 1, *kvs KeyValue 2, more bool 3, count int64 4",
    "PutRequest": "key bytes 1, value bytes 2, lease int64 3",
    "PutResponse": "header ResponseHeader 1, prev_kv KeyValue 2",
    "DeleteRangeRequest": "key bytes 1, range_end bytes 2, prev_kv bool 3",
    "DeleteRangeResponse": "header ResponseHeader 1, deleted int64 2, *prev_kvs KeyValue 3",
    "Compare": "result int32 1, target int32 2, key bytes 3, |version int64 4, "
    "|create_revision int64 5, |mod_revision int64 6, |value bytes 7, |lease int64 8",
    "RequestOp": "|request_range RangeRequest 1, |request_put PutRequest 2, "
    "|request_delete_range DeleteRangeRequest 3",
    "ResponseOp": "|response_range RangeResponse 1, |response_put PutResponse 2, "
    "|response_delete_range DeleteRangeResponse 3",
    "TxnRequest": "*compare Compare 1, *success RequestOp 2, *failure RequestOp 3",
    "TxnResponse": "header ResponseHeader 1, succeeded bool 2, *responses ResponseOp 3",
    "WatchCreateRequest": "key bytes 1, range_end bytes 2, start_revision int64 3, "
    "progress_notify bool 4, prev_kv bool 6, watch_id int64 7, fragment bool 8",
    "WatchProgressRequest": "",
    "WatchRequest": "|create_request WatchCreateRequest 1, "
    "|progress_request WatchProgressRequest 3",
    "WatchResponse": "header ResponseHeader 1, watch_id int64 2, created bool 3, canceled bool 4, "
    "compact_revision int64 5, cancel_reason string 6, fragment bool 7, *events Event 11",
    "LeaseGrantRequest": "TTL int64 1, ID int64 2",
    "LeaseGrantResponse": "header ResponseHeader 1, ID int64 2, TTL int64 3, error string 4",
    "LeaseRevokeRequest": "ID int64 1",
    "LeaseTimeToLiveRequest": "ID int64 1, keys bool 2",
    "LeaseTimeToLiveResponse": "header ResponseHeader 1, ID int64 2, TTL int64 3, "
    "grantedTTL int64 4, *keys bytes 5",
    "AuthenticateRequest": "name string 1, password string 2",
    "AuthenticateResponse": "header ResponseHeader 1, token string 2",
}
_PACKAGE = "etcd"
_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        if "|" in fields:
            message.oneof_decl.add(name="one")
        for text in filter(None, fields.split(", ")):
            mark, (called, kind, number) = text[0], text.lstrip("*|").split()
            field = message.field.add(name=called, number=int(number))
            field.label = _Field.LABEL_REPEATED if mark == "*" else _Field.LABEL_OPTIONAL
            if mark == "|":
                field.oneof_index = 0
            if kind in MESSAGES:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    return file


def classes() -> dict[str, Any]:
    """The library's class of each message."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in MESSAGES
    }
