"""The Status object that every refusal is answered with (k8s.io/apimachinery api/errors)."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """An answer other than success."""

    def __init__(
        self, code: int, message: str, *, reason: str = "", details: Json | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.reason = reason or REASONS[code]
        self.details = details or {}
        super().__init__(message)

    def body(self) -> Json:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def not_found(resource: str, name: str) -> ApiError:
    return ApiError(404, f'{resource} "{name}" not found', details={"name": name, "kind": resource})


def conflict(resource: str, name: str) -> ApiError:
    return ApiError(
        409,
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again",
        details={"name": name, "kind": resource},
    )


def already_exists(resource: str, name: str) -> ApiError:
    return ApiError(
        409,
        f'{resource} "{name}" already exists',
        reason="AlreadyExists",
        details={"name": name, "kind": resource},
    )


def invalid(kind: str, name: str, *causes: str) -> ApiError:
    text = causes[0] if len(causes) == 1 else f"[{', '.join(causes)}]"
    return ApiError(
        422, f'{kind} "{name}" is invalid: {text}', details={"name": name, "kind": kind}
    )


def expired(message: str) -> ApiError:
    return ApiError(410, message)
