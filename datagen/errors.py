"""The error tree. Every error that a user can cause or see derives from DatagenError.

The message says what failed, which field or id, what was expected and what to do.
"""


class DatagenError(Exception):
    """Base of all errors; `exit_code` is what the command line returns for it."""

    exit_code = 1


class InputError(DatagenError):
    """What the user gave cannot be accepted; nothing was written."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe is not valid."""


class LabelError(InputError):
    """A label is not valid, or a transform would make it false."""


class ModelError(InputError):
    """A model directory is missing, damaged, unsafe or does not fit the recipe."""


class NotFoundError(DatagenError):
    """A named data set, version, sample or model does not exist."""

    exit_code = 3


class RevokedError(NotFoundError):
    """It existed and was revoked: its bytes are gone or going, its digest is kept."""


class ConflictError(DatagenError):
    """The request contradicts the state that the thing is in; nothing was changed.

    retry_after_s: when the same request may succeed, where that is known.
    """

    exit_code = 4

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaError(DatagenError):
    """The tenant may not have more of this now; nothing was written. retry_after_s: as above."""

    exit_code = 4

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AuthError(DatagenError):
    """No key, or one that is unknown, expired or revoked."""

    exit_code = 7


class ForbiddenError(AuthError):
    """A good key whose scopes do not allow this, or a policy that allows it to nobody yet."""


class JobError(DatagenError):
    """A job ended without a published version."""

    exit_code = 4


class VerifyError(DatagenError):
    """Stored data differ from what the manifest says."""

    exit_code = 5


class StoreError(DatagenError):
    """The object store refused or failed an operation."""

    exit_code = 6


class ObjectExistsError(StoreError):
    """A create-only put met an object of the same name."""


class CatalogError(DatagenError):
    """The catalog database refused or failed an operation."""

    exit_code = 6


class TrainingError(DatagenError):
    """A training could not go on."""

    exit_code = 4


class MachineError(TrainingError):
    """This machine could not train: a full disk, a missing GPU. Another may."""


class RetryableError(DatagenError):
    """A passing fault: the same call may succeed later."""

    exit_code = 6


class CatalogUnavailableError(RetryableError, CatalogError):
    """The catalog database is full, or does not answer."""


class LeaseLostError(CatalogError):
    """A unit is owned by someone else now: the work done under the old claim is thrown away."""


class ObjectMissingError(StoreError):
    """The object asked for does not exist: what was published is damaged."""

    exit_code = 5


class StoreFullError(RetryableError, StoreError):
    """The object store has no room left; nothing of the object was kept."""


class StoreUnavailableError(RetryableError, StoreError):
    """The object store does not answer, or answers with a fault of its own."""


class LostAttemptsError(CatalogError):
    """Cached attempts that a job counts on were forgotten; their images can be made again."""


class DamagedAttemptsError(StoreError):
    """An object of the attempt cache is missing or changed; its images can be made again."""

    def __init__(self, object_key: str, reason: str) -> None:
        super().__init__(f"object {object_key}: {reason}; its images are made again")
        self.object_key = object_key
