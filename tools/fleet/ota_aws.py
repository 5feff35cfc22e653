"""Jobs in an AWS account: IoT Jobs, a stream or an S3 object for the file.

Never run against AWS: tested with botocore's stubs, which check requests against AWS's own
description of its interface, and no more.
"""

import contextlib
import json

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.fleet.ota_cloud import CloudError, Execution, Job

# Between two looks at a job, in seconds: AWS limits how often one may ask.
INTERVAL = 5.0
_URL_LIFE = 3600


@contextlib.contextmanager
def _told():
    """AWS's errors as CloudError."""
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        raise CloudError(
            f"AWS refuses {error.operation_name}: {told.get('Code')} {told.get('Message')}"
        ) from None
    except BotoCoreError as error:
        raise CloudError(f"AWS cannot be asked: {error}") from None


def clients(profile):
    """(iot, s3) clients of boto3 for a profile of the AWS configuration. Raises CloudError."""
    with _told():
        session = boto3.Session(profile_name=profile)
        return session.client("iot"), session.client("s3")


class AwsCloud:
    """One account and region."""

    interval = INTERVAL

    def __init__(self, iot, s3, bucket=None, role=None):
        """bucket: where files are put; role: ARN of the role by which AWS IoT reads them there.
        Only `create` needs the two."""
        self._iot = iot
        self._s3 = s3
        self._bucket = bucket
        self._role = role
        self._ended = {}

    def create(self, job, things, order):
        """Order an update: everything, or nothing is left behind. Raises CloudError."""
        if not self._bucket or not self._role:
            raise CloudError("say where AWS finds the file, and by which role: --bucket, --role")
        key = order.key(job)
        # What has been made is taken away again when a later step fails.
        with _told(), contextlib.ExitStack() as undo:
            targets = [self._iot.describe_thing(thingName=thing)["thingArn"] for thing in things]
            put = self._s3.put_object(Bucket=self._bucket, Key=key, Body=order.data)
            undo.callback(self._s3.delete_object, Bucket=self._bucket, Key=key)
            request = {
                "jobId": job,
                "targets": targets,
                "description": order.description,
                "targetSelection": "SNAPSHOT",
            }
            if order.by_url:
                document = order.document(url=self._placeholder(key))
                request["presignedUrlConfig"] = {"roleArn": self._role, "expiresInSec": _URL_LIFE}
            else:
                place = {"bucket": self._bucket, "key": key}
                if "VersionId" in put:
                    place["version"] = put["VersionId"]
                files = [{"fileId": 0, "s3Location": place}]
                self._iot.create_stream(streamId=job, files=files, roleArn=self._role)
                undo.callback(self._iot.delete_stream, streamId=job)
                document = order.document(stream=job)
            self._iot.create_job(document=json.dumps(document), **request)
            undo.pop_all()

    def _placeholder(self, key):
        # AWS IoT puts a fresh URL in its place whenever a module asks for the document (AWS IoT
        # developer guide, "Managing jobs", "Presigned URLs").
        host = f"s3.{self._s3.meta.region_name}.amazonaws.com"
        return f"${{aws:iot:s3-presigned-url-v2:https://{host}/{self._bucket}/{key}}}"

    def executions(self, job):
        """[Execution] of a job, in AWS's order. Raises CloudError."""
        found = []
        with _told():
            pages = self._iot.get_paginator("list_job_executions_for_job").paginate(jobId=job)
            for page in pages:
                for row in page["executionSummaries"]:
                    thing = row["thingArn"].partition(":thing/")[2]
                    found.append(self._execution(job, thing, row["jobExecutionSummary"]["status"]))
        return found

    def _execution(self, job, thing, status):
        # What has ended does not change; what has not begun has no details.
        known = self._ended.get((job, thing))
        if known is not None:
            return known
        if status == "QUEUED":
            return Execution(thing, status)
        told = self._iot.describe_job_execution(jobId=job, thingName=thing)["execution"]
        details = told.get("statusDetails", {}).get("detailsMap", {})
        execution = Execution(thing, told["status"], details)
        if execution.ended:
            self._ended[job, thing] = execution
        return execution

    def jobs(self):
        """[Job], the newest last. Raises CloudError."""
        with _told():
            pages = self._iot.get_paginator("list_jobs").paginate()
            rows = [row for page in pages for row in page["jobs"]]
        rows.sort(key=lambda row: (row["createdAt"], row["jobId"]))
        # AWS tells the description only of one job at a time.
        return [Job(row["jobId"], row["status"]) for row in rows]

    def cancel(self, job, force):
        """Cancel a job: what is queued, with `force` also what is in progress."""
        with _told():
            self._iot.cancel_job(jobId=job, force=force)
