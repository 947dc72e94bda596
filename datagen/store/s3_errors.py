"""What a failed S3 request means for a caller, and what to do about it. Called by s3.py alone."""

from __future__ import annotations

from typing import Any

from datagen.errors import ObjectMissingError, StoreError, StoreFullError, StoreUnavailableError

_FULL = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded")
# BadDigest and its like: the body was changed on its way.
_PASSING = (
    *("RequestTimeout", "SlowDown", "OperationAborted"),
    *("BadDigest", "XAmzContentSHA256Mismatch"),
)
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"


def boto_errors() -> tuple[type[Exception], ...]:
    """Everything that boto3 raises for a request; imported when a request is made."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (ClientError, BotoCoreError, ResponseParserError)


def store_error(error: Exception, what: str, *, bucket: str) -> StoreError:
    """what: the start of the message, such as "cannot write s3://bucket/key"."""
    if http_status(error):
        return _refusal(error, what, bucket=bucket)
    return _no_reply(error, what)


def http_status(error: BaseException | None) -> int:
    """Of boto3's ClientError; 0 of anything else."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def missing_bucket(bucket: str) -> StoreError:
    return StoreError(
        f"bucket {bucket!r} does not exist; create it, or correct DATAGEN_STORE_URL and "
        "DATAGEN_S3_ENDPOINT_URL"
    )


def _refusal(error: Any, what: str, *, bucket: str) -> StoreError:
    status = http_status(error)
    reply = error.response.get("Error", {})
    code = str(reply.get("Code", ""))
    what = f"{what}: {status} {code} {reply.get('Message', '')}"
    if code == "NoSuchBucket":
        return missing_bucket(bucket)
    if status == 404:
        return ObjectMissingError(f"{what}; if it should exist, run `datagen verify`")
    if status == 507 or code in _FULL:
        return StoreFullError(f"{what}; make room, then run the same command again")
    if status == 501:
        return StoreError(f"{what}; use an S3 server with conditional writes, or a directory")
    if status in (408, 429) or status >= 500 or code in _PASSING:
        return StoreUnavailableError(
            # SeaweedFS calls a full disk an internal error, too.
            f"{what}; see that DATAGEN_S3_ENDPOINT_URL is an S3 server, well and not full, then "
            "run again"
        )
    if status in (401, 403):
        return StoreError(
            f"{what}; {_KEYS} to keys that may get, put, delete and list there, and see that the "
            "clock is right"
        )
    return StoreError(
        f"{what}; correct DATAGEN_STORE_URL, DATAGEN_S3_ENDPOINT_URL or AWS_DEFAULT_REGION"
    )


def _no_reply(error: Exception, what: str) -> StoreError:
    from botocore import exceptions as boto

    if isinstance(error, (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError)):
        return StoreUnavailableError(
            f"{what}: {error}; see that the S3 server is up and reachable, and that "
            "DATAGEN_S3_ENDPOINT_URL is right"
        )
    if isinstance(error, boto.BotoCoreError):
        return StoreError(f"{what}: {error}; {_KEYS}, and see that DATAGEN_STORE_URL is right")
    return StoreError(f"{what}: no S3 reply ({error}); correct DATAGEN_S3_ENDPOINT_URL")
