// A node that starts two jobs in the full network and then waits to be killed. Runs what was built.
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { createDockerExecutor } from '../../../dist/executors/docker/index.js'

const [socketPath, nodeId, Image, scratch, ...executionIds] = process.argv.slice(2)
const executor = createDockerExecutor({ nodeId, socketPath, holderPoolSize: 1, full: {} })
for (const executionId of executionIds) {
  const network = await executor.network.acquire('full', { executionId }, AbortSignal.timeout(20_000))
  const Params = { Image, Entrypoint: ['/bin/sleep', '300'] }
  await executor.start(
    {
      nodeId,
      jobId: 'j-crash',
      executionId,
      env: {},
      volumes: [],
      outputs: [],
      network,
      task: { Engine: { Type: 'docker', Params } },
      engine: { Type: 'docker', Params },
      resources: { cpu: 0.5, memoryBytes: 64 * 1024 * 1024, diskBytes: 0, gpu: 0 },
      output: { write() {} },
      scratchDir: mkdtempSync(join(scratch, 'run-')),
    },
    () => {},
    AbortSignal.timeout(20_000),
  )
}
await executor.network.warm()
process.send('ready')
setInterval(() => {}, 1000)
