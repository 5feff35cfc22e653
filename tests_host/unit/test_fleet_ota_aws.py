"""`fleet --aws`: what is asked of AWS, judged by botocore's own description of the interface."""

import datetime
import json
import sys

import boto3
import pytest
from botocore.stub import ANY, Stubber

from tests_host.unit.factory_parts import fleet
from tools.fleet import ota_aws

ROLE = "arn:aws:iam::123456789012:role/updates"
PREFIX = "arn:aws:iot:eu-central-1:123456789012:thing/"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture
def aws(monkeypatch):
    """(stub of iot, stub of s3); all that was expected has to have been asked."""
    given = {
        "region_name": "eu-central-1",
        "aws_access_key_id": "none",
        "aws_secret_access_key": "none",
    }
    made = [boto3.client(name, **given) for name in ("iot", "s3")]
    monkeypatch.setattr(ota_aws, "clients", lambda profile: made)
    stubs = [Stubber(client) for client in made]
    for stub in stubs:
        stub.activate()
    yield stubs
    for stub in stubs:
        stub.assert_no_pending_responses()
        stub.deactivate()


@pytest.fixture
def host(tmp_path):
    path = tmp_path / "host image.bin"
    path.write_bytes(b"for the host")
    return path


def create(host, *words):
    given = ("--thing", "t1", "--thing", "t2", "--type", 202, "--file", host)
    role = ("--bucket", "files", "--role", ROLE)
    return fleet("--aws", "lab", "ota", "create", *given, *role, *words)


def expect_things(iot):
    for thing in ("t1", "t2"):
        iot.add_response("describe_thing", {"thingArn": PREFIX + thing}, {"thingName": thing})


class Same:
    """Equal to whatever it is compared with first, and from then on only to that."""

    def __init__(self):
        self.seen = None

    def __eq__(self, other):
        self.seen = other if self.seen is None else self.seen
        return self.seen == other

    __hash__ = None


class Document:
    """Equal to a JSON text that it keeps."""

    def __eq__(self, other):
        self.value = json.loads(other)
        return True

    __hash__ = None


@pytest.mark.parametrize("version", [None, "v7"])
def test_an_order_by_stream(aws, host, version):
    iot, s3 = aws
    expect_things(iot)
    job, key, document = Same(), Same(), Document()
    answer = {} if version is None else {"VersionId": version}
    s3.add_response("put_object", answer, {"Bucket": "files", "Key": key, "Body": b"for the host"})
    place = {"bucket": "files", "key": key}
    if version:
        place["version"] = version
    files = [{"fileId": 0, "s3Location": place}]
    iot.add_response("create_stream", {}, {"streamId": job, "files": files, "roleArn": ROLE})
    wanted = {
        "jobId": job,
        "targets": [PREFIX + "t1", PREFIX + "t2"],
        "document": document,
        "description": "host image host image.bin",
        "targetSelection": "SNAPSHOT",
    }
    iot.add_response("create_job", {}, wanted)
    code, said = create(host)
    assert code == 0, said
    assert said.split()[-1] == job.seen
    assert key.seen == f"expresslink/{job.seen}/host_image.bin"
    ota = document.value["afr_ota"]
    assert (ota["protocols"], ota["streamname"]) == (["MQTT"], job.seen)
    assert ota["files"][0]["filesize"] == 12


def test_an_order_by_url(aws, host):
    iot, s3 = aws
    expect_things(iot)
    job, document = Same(), Document()
    s3.add_response("put_object", {}, {"Bucket": "files", "Key": ANY, "Body": ANY})
    wanted = {
        "jobId": job,
        "targets": ANY,
        "document": document,
        "description": ANY,
        "targetSelection": "SNAPSHOT",
        "presignedUrlConfig": {"roleArn": ROLE, "expiresInSec": 3600},
    }
    iot.add_response("create_job", {}, wanted)
    code, said = create(host, "--protocol", "http")
    assert code == 0, said
    [file] = document.value["afr_ota"]["files"]
    assert file["update_data_url"] == (
        "${aws:iot:s3-presigned-url-v2:https://s3.eu-central-1.amazonaws.com"
        f"/files/expresslink/{job.seen}/host_image.bin}}"
    )


def test_an_order_that_aws_refuses_leaves_nothing_behind(aws, host):
    iot, s3 = aws
    expect_things(iot)
    key, job = Same(), Same()
    s3.add_response("put_object", {}, {"Bucket": "files", "Key": key, "Body": ANY})
    iot.add_response("create_stream", {}, {"streamId": job, "files": ANY, "roleArn": ROLE})
    iot.add_client_error("create_job", "LimitExceededException", "too many jobs")
    iot.add_response("delete_stream", {}, {"streamId": job})
    s3.add_response("delete_object", {}, {"Bucket": "files", "Key": key})
    code, said = create(host)
    assert code == 1
    assert said == "Error: AWS refuses CreateJob: LimitExceededException too many jobs\n"


def test_an_order_for_an_unknown_thing(aws, host):
    aws[0].add_client_error("describe_thing", "ResourceNotFoundException", "no t1")
    code, said = create(host)
    assert code == 1
    assert "ResourceNotFoundException no t1" in said


def test_bucket_and_role_are_needed(aws, host):
    words = ("--thing", "t1", "--type", 202, "--file", host)
    code, said = fleet("--aws", "lab", "ota", "create", *words)
    assert code == 1
    assert "--bucket, --role" in said


def expect_executions(iot, statuses, token=None, more=None):
    rows = [
        {"thingArn": PREFIX + thing, "jobExecutionSummary": {"status": status}}
        for thing, status in statuses.items()
    ]
    answer = {"executionSummaries": rows} | ({"nextToken": more} if more else {})
    asked = {"jobId": "job"} | ({"nextToken": token} if token else {})
    iot.add_response("list_job_executions_for_job", answer, asked)


def expect_details(iot, thing, status, details):
    told = {"status": status, "statusDetails": {"detailsMap": details}}
    asked = {"jobId": "job", "thingName": thing}
    iot.add_response("describe_job_execution", {"execution": told}, asked)


def test_status_over_two_pages(aws):
    iot, _ = aws
    iot.add_response(
        "list_job_executions_for_job",
        {
            "executionSummaries": [
                {"thingArn": PREFIX + "t1", "jobExecutionSummary": {"status": "QUEUED"}}
            ],
            "nextToken": "more",
        },
        {"jobId": "job"},
    )
    expect_executions(iot, {"t2": "FAILED", "t3": "IN_PROGRESS"}, token="more")
    expect_details(iot, "t2", "FAILED", {"reason": "wrong signature"})
    expect_details(iot, "t3", "IN_PROGRESS", {"receive": "3/9"})
    code, said = fleet("--aws", "lab", "ota", "status", "job")
    assert code == 0, said
    assert said == "t1 QUEUED\nt2 FAILED wrong signature\nt3 IN_PROGRESS 3/9\n"


def test_what_has_ended_is_not_asked_again(aws):
    iot, s3 = aws
    cloud = ota_aws.AwsCloud(iot.client, s3.client)
    expect_executions(iot, {"t1": "SUCCEEDED", "t2": "IN_PROGRESS"})
    expect_details(iot, "t1", "SUCCEEDED", {"reason": "ok"})
    expect_details(iot, "t2", "IN_PROGRESS", {})
    cloud.executions("job")
    expect_executions(iot, {"t1": "SUCCEEDED", "t2": "SUCCEEDED"})
    expect_details(iot, "t2", "SUCCEEDED", {})
    assert [e.line for e in cloud.executions("job")] == ["t1 SUCCEEDED ok", "t2 SUCCEEDED"]


def test_list_tells_the_newest_last(aws):
    iot, _ = aws
    later = NOW + datetime.timedelta(hours=1)
    rows = [
        {"jobId": "new", "status": "IN_PROGRESS", "createdAt": later},
        {"jobId": "old", "status": "COMPLETED", "createdAt": NOW},
    ]
    iot.add_response("list_jobs", {"jobs": rows}, {})
    code, said = fleet("--aws", "lab", "ota", "list")
    assert (code, said) == (0, "old COMPLETED\nnew IN_PROGRESS\n")


@pytest.mark.parametrize("force", [False, True])
def test_cancel(aws, force):
    iot, _ = aws
    iot.add_response("cancel_job", {}, {"jobId": "job", "force": force})
    expect_executions(iot, {"t1": "CANCELED"})
    expect_details(iot, "t1", "CANCELED", {})
    words = ("--force",) if force else ()
    code, said = fleet("--aws", "lab", "ota", "cancel", "job", *words)
    assert (code, said) == (0, "t1 CANCELED\n")


def test_a_profile_that_does_not_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    code, said = fleet("--aws", "nobody", "ota", "list")
    assert code == 1
    assert "nobody" in said


def test_without_boto3_it_says_what_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "tools.fleet.ota_aws")
    monkeypatch.delattr("tools.fleet.ota_aws")
    monkeypatch.setitem(sys.modules, "boto3", None)
    code, said = fleet("--aws", "lab", "ota", "list")
    assert code == 1
    assert "needs the Python package boto3" in said
