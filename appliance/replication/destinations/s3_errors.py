"""What S3 and its client complain of, in our terms.

A missing bucket, a wrong key or a refused permission needs a person, but not that anything is given up: the delivery
waits. Only a request that S3 calls malformed is `Refused`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)

from appliance.errors import ApplianceError, OperatorNeeded, OutOfResources, Refused, Resting, Transient
from appliance.lifecycle.storage_class import DEEP, hours_of

_WRONG_KEY: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
NO_BUCKET: Final = frozenset({"NoSuchBucket", "InvalidBucketName"})
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "TemporaryRedirect"}
)
NOT_OFFERED: Final = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
"""A store does not do that at all, whoever asks and whenever."""
NO_OBJECT: Final = frozenset({"NoSuchKey", "NoSuchVersion"})
"""The store has looked, and there is no such object."""
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_LATER: Final = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "OperationAborted",
        "Throttling",
        "TooManyRequests",
        "BadDigest",
        "InvalidDigest",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
        "IncompleteBody",
        "NoSuchUpload",
        "InvalidPart",
        "InvalidPartOrder",
    }
)


ALLOW: Final = "allow this access key to list, read and write the bucket"
ALLOW_WAKING: Final = (
    "allow this access key s3:RestoreObject, as in the policy that is printed for its bucket"
)
"""The hint for a key that may do all but fetch from deep archive: policies printed earlier did not name that."""
ALLOW_VERSIONS: Final = "allow this access key s3:ListBucketVersions and s3:GetObjectVersion, or give the one of the bucket's owner for this"
"""For what was written over or removed: a box's own key may read one version, and by policies printed earlier not list them."""
ALLOW_TAGGING: Final = (
    "allow this access key s3:PutObjectTagging, as in the policy that is printed for its bucket"
)
"""Likewise, for the tags by which images go to cheaper classes."""


@contextmanager
def in_our_terms(doing: str, *, allow: str = ALLOW) -> Iterator[None]:
    """Translate what the S3 client raises while `doing` (a gerund and its object, for the message); `allow` is the hint if the key
    may not do so.
    """
    try:
        yield
    except ClientError as error:
        raise _answered(error, doing, allow) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise OperatorNeeded(
            f"{doing} needs an access key, and none is set", hint="add the destination with its access key"
        ) from error
    except ParamValidationError as error:
        raise OperatorNeeded(
            f"{doing} failed: the bucket's name is not valid", hint="correct the bucket"
        ) from error
    except SSLError as error:
        raise OperatorNeeded(
            f"{doing} failed: the certificate of the cloud storage is not trusted",
            hint="check this box's clock and the address",
        ) from error
    except BotoCoreError as error:
        # Connections refused, cut or timed out; their texts hold addresses with object names, so only the kind is kept.
        raise Transient(
            f"{doing} failed: the cloud storage does not answer ({type(error).__name__})"
        ) from error


def not_the_store(doing: str) -> Transient:
    """What is raised where something else answers."""
    return Transient(
        f"{doing} failed: what answers is not the cloud storage, or says half of what it should",
        hint="if it lasts, look at what is between the box and the cloud storage",
    )


def code_of(error: ClientError) -> str:
    """S3's error code; for answers without a body, the HTTP status as text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """The HTTP status of the answer."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answered(error: ClientError, doing: str, allow: str) -> ApplianceError:
    code, status = code_of(error), status_of(error)
    words = f"{doing} failed ({code or status})"
    if code == "InvalidObjectState":
        told: Mapping[str, Any] = {**error.response.get("Error", {})}
        hours = hours_of(str(told.get("StorageClass", "")), str(told.get("AccessTier", "")))
        return Resting(
            "the object lies in deep archive, and has to be fetched first",
            wait_hours=hours or DEEP.wait_hours,
        )
    if code == "RequestTimeTooSkewed":
        return Transient(words, hint="if it lasts, check this box's clock")
    if code in _FULL:
        return OutOfResources(words, hint="the cloud storage is full")
    if code in _LATER or status >= 500 or status in {408, 409, 425, 429}:
        return Transient(words)
    if code in _WRONG_KEY or status == 401:
        return OperatorNeeded(words, hint="correct the access key and its secret")
    if code in NO_BUCKET or status == 404:
        return OperatorNeeded(words, hint="create the bucket, or correct its name")
    if code in _ELSEWHERE or status in {301, 307}:
        return OperatorNeeded(words, hint="the bucket is in another region: correct the region")
    if status == 403:
        return OperatorNeeded(words, hint=allow)
    return Refused(words)
