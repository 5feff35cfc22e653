"""The local cloud's jobs, judged by AWS's own client."""

import queue

import pytest
from awscrt.mqtt_request_response import ClientOptions, SubscriptionStatusEventType
from awsiot import (
    ServiceStreamOptions,
    V2ServiceException,
    iotjobs,
    mqtt_connection_builder,
)

from tests_host.system.cloud_client import Device


@pytest.fixture(scope="module")
def device(_cloud):
    return Device(_cloud.state, "judge_jobs")


@pytest.fixture
def client(cloud, device):
    connection = mqtt_connection_builder.mtls_from_path(
        endpoint="localhost",
        port=cloud.mqtt,
        cert_filepath=device.cert,
        pri_key_filepath=device.key,
        ca_filepath=device.ca,
        client_id=device.thing,
        clean_session=True,
        keep_alive_secs=30,
    )
    connection.connect().result(10)
    yield iotjobs.IotJobsClientV2(connection, ClientOptions(6, 4, 5))
    connection.disconnect().result(10)
    for job in cloud.control.jobs():
        cloud.control.delete_job(job["job"], force=True)


def refused(future):
    with pytest.raises(V2ServiceException) as caught:
        future.result(10)
    error = caught.value.modeled_error
    assert isinstance(error, iotjobs.V2ErrorResponse) and error.message and error.timestamp
    return error


def streaming(create, request):
    """A subscription, to be kept, and the queue of its events; it is live when this returns."""
    events, up = queue.Queue(), queue.Queue()
    options = ServiceStreamOptions(
        incoming_event_listener=events.put,
        subscription_status_listener=up.put,
        deserialization_failure_listener=events.put,
    )
    operation = create(request, options)
    operation.open()
    assert up.get(timeout=5).type == SubscriptionStatusEventType.SUBSCRIPTION_ESTABLISHED
    return operation, events


def test_the_whole_way(cloud, client, device):
    thing = device.thing
    cloud.control.create_job("j1", [thing], {"action": "blink", "count": 3}, timeout=10)
    cloud.control.create_job("j2", [thing], {"action": "rest"})
    pending = client.get_pending_job_executions(
        iotjobs.GetPendingJobExecutionsRequest(thing_name=thing)
    ).result(10)
    assert [job.job_id for job in pending.queued_jobs] == ["j1", "j2"]
    assert pending.in_progress_jobs == [] and pending.timestamp
    started = client.start_next_pending_job_execution(
        iotjobs.StartNextPendingJobExecutionRequest(
            thing_name=thing, status_details={"p": "0"}, step_timeout_in_minutes=5
        )
    ).result(10)
    found = started.execution
    assert (found.job_id, found.status) == ("j1", iotjobs.JobStatus.IN_PROGRESS)
    assert found.job_document == {"action": "blink", "count": 3}
    assert found.queued_at <= found.started_at <= found.last_updated_at
    updated = client.update_job_execution(
        iotjobs.UpdateJobExecutionRequest(
            thing_name=thing,
            job_id="j1",
            status=iotjobs.JobStatus.IN_PROGRESS,
            status_details={"p": "50"},
            expected_version=found.version_number,
            execution_number=found.execution_number,
            include_job_execution_state=True,
            include_job_document=True,
        )
    ).result(10)
    assert updated.execution_state.version_number == found.version_number + 1
    assert updated.execution_state.status_details == {"p": "50"}
    assert updated.job_document == found.job_document
    described = client.describe_job_execution(
        iotjobs.DescribeJobExecutionRequest(thing_name=thing, job_id="$next")
    ).result(10)
    assert described.execution.job_id == "j1"
    assert described.execution.status_details == {"p": "50"}
    stale = client.update_job_execution(
        iotjobs.UpdateJobExecutionRequest(
            thing_name=thing, job_id="j1", status="SUCCEEDED", expected_version=1
        )
    )
    error = refused(stale)
    assert error.code == iotjobs.RejectedErrorCode.VERSION_MISMATCH
    assert error.execution_state.version_number == 3
    for job in ("j1", "j2"):
        request = iotjobs.UpdateJobExecutionRequest(
            thing_name=thing, job_id=job, status=iotjobs.JobStatus.SUCCEEDED
        )
        client.update_job_execution(request).result(10)
    nothing = client.start_next_pending_job_execution(
        iotjobs.StartNextPendingJobExecutionRequest(thing_name=thing)
    ).result(10)
    assert nothing.execution is None


def test_every_rejection(cloud, client, device):
    thing = device.thing
    codes = iotjobs.RejectedErrorCode
    cloud.control.create_job("j1", [thing], {})

    def describe(job, **fields):
        request = iotjobs.DescribeJobExecutionRequest(thing_name=thing, job_id=job, **fields)
        return refused(client.describe_job_execution(request))

    def update(job, status, **fields):
        request = iotjobs.UpdateJobExecutionRequest(
            thing_name=thing, job_id=job, status=status, **fields
        )
        return refused(client.update_job_execution(request))

    assert describe("none").code == codes.RESOURCE_NOT_FOUND
    assert describe("a.b").code == codes.INVALID_TOPIC
    assert update("j1", "CANCELED").code == codes.INVALID_REQUEST
    assert update("j1", "FAILED", status_details={"a": ""}).code == codes.INVALID_REQUEST
    cloud.control.cancel_job("j1")
    error = update("j1", "SUCCEEDED")
    assert error.code == codes.INVALID_STATE_TRANSITION
    assert error.execution_state.status == iotjobs.JobStatus.CANCELED
    assert describe("j1").code == codes.TERMINAL_STATE_REACHED
    for code in (codes.REQUEST_THROTTLED, codes.INTERNAL_ERROR):
        cloud.control.fault("refuse", at="jobs", error=code, count=1)
        assert describe("j1").code == code


def test_notices(cloud, client, device):
    thing = device.thing
    changes, lists = streaming(
        client.create_job_executions_changed_stream,
        iotjobs.JobExecutionsChangedSubscriptionRequest(thing_name=thing),
    )
    heads, firsts = streaming(
        client.create_next_job_execution_changed_stream,
        iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=thing),
    )
    cloud.control.create_job("j1", [thing], {"n": 1})
    listed = lists.get(timeout=5)
    assert [job.job_id for job in listed.jobs[iotjobs.JobStatus.QUEUED]] == ["j1"]
    first = firsts.get(timeout=5)
    assert first.execution.job_id == "j1" and first.execution.job_document == {"n": 1}
    cloud.control.cancel_job("j1")
    assert lists.get(timeout=5).jobs == {}
    assert firsts.get(timeout=5).execution is None
    del changes, heads  # ends the two subscriptions
