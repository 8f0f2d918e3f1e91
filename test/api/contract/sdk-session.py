"""One session with the real bacalhau_sdk against the server of BACALHAU_API_HOST; prints what it read as JSON."""

import json
import time

from bacalhau_apiclient.models.all_of_execution_published_result import SpecConfig
from bacalhau_apiclient.models.api_put_job_request import ApiPutJobRequest
from bacalhau_apiclient.models.job import Job
from bacalhau_apiclient.models.task import Task
from bacalhau_sdk.jobs import Jobs

jobs = Jobs()
task = Task(
    name="main",
    engine=SpecConfig(
        type="docker",
        params={"Image": "busybox", "Entrypoint": ["/bin/sh"], "Parameters": ["-c", "echo hello"]},
    ),
    publisher=SpecConfig(),
)
put = jobs.put(ApiPutJobRequest(job=Job(name="from python", type="batch", count=1, tasks=[task])))
got = jobs.get(put.job_id, include="executions")
for _ in range(200):
    if got.job.state.state_type in ("Completed", "Failed", "Stopped"):
        break
    time.sleep(0.05)
    got = jobs.get(put.job_id, include="executions")
print(
    json.dumps(
        {
            "id": put.job_id,
            "state": got.job.state.state_type,
            "stdout": got.executions.items[0].run_output.stdout,
            "executions": len(jobs.executions(put.job_id).items),
            "results": len(jobs.results(put.job_id).items),
            "listed": len(jobs.list().items),
        }
    )
)
