"""No error that quotes a source says the secret in it."""

from __future__ import annotations

import pickle

import pytest

from rldk.errors import RLDKError, SettingError, SourceError, TargetError
from rldk.ingest import ingest_runs


@pytest.mark.parametrize(
    "source",
    [
        "https://user:S3CRET@127.0.0.1:1/x.csv",
        "s3://KEY:S3CRET@bucket/x",
        "POSTGRESQL://user:S3CRET@127.0.0.1:1/db",
        " postgresql://user:S3CRET@127.0.0.1:1/db",
        "databricks://S3CRET@x",
        "user:S3CRET@host:/path",
        "https://host/x.csv?token=S3CRET",
    ],
)
def test_an_address_that_nobody_reads(source):
    """Whatever it looks like."""
    with pytest.raises(RLDKError) as caught:
        ingest_runs(source)
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize("kind", [SourceError, TargetError, SettingError])
def test_any_error_that_is_made_of_one(kind):
    """Also when another process is told of it."""
    error = kind("s3://K:S3CRET@bucket/x", "Invalid bucket name K:S3CRET@bucket", "x")
    assert "S3CRET" not in str(error) + str(pickle.loads(pickle.dumps(error)))  # noqa: S301  # our own


def test_what_is_no_secret_stays():
    """Times, ratios, drive letters, addresses."""
    told = "at 10:30 the ratio 1:2 of C:/x@home and tcp://127.0.0.1:80 and me@host"
    assert told in str(SourceError("s", told, "x"))
