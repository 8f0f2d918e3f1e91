import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createDockerExecutor } from '../../src/executors/docker/index.js'
import type { TaskSpec } from '../../src/model/job-spec.js'
import { outputSubject } from '../../src/ports/index.js'
import { CopyPublisher, dockerJob, startFixture, TextSource } from './node-fixture.js'

/** What the parent wants of this program, as JSON in `argv[2]`. */
export interface DockerNodePlan {
  dataDir: string
  nodeId: string
  executionId: string
  image: string
  script: string
  /** Where the job is to be when the program says that it is there. */
  until: 'Preparing' | 'Created' | 'Running' | 'Publishing' | 'Exited'
  task?: Partial<TaskSpec>
}

/**
 * A program for tests: runs a compute node with the real Docker engine and one job, writes a line when the job is where it is wanted, and
 * waits to be killed.
 */
const plan = JSON.parse(process.argv[2] ?? '{}') as DockerNodePlan
const executor = createDockerExecutor({ nodeId: plan.nodeId, holderPoolSize: 1, full: {} })
const arrived = () => process.stdout.write('there\n')
const [source, publisher] = [new TextSource(), new CopyPublisher()]
publisher.hang = plan.until === 'Publishing'
const start = executor.start.bind(executor)
executor.start = (run, progress, signal) =>
  start(
    {
      ...run,
      beforeStart: async () => {
        await run.beforeStart?.()
        if (plan.until !== 'Created') return
        arrived()
        await new Promise(() => {})
      },
    },
    progress,
    signal,
  )
const { orchestrator, transport } = await startFixture({
  dataDir: plan.dataDir,
  node: {
    nodeId: plan.nodeId,
    policy: { acceptNetworkedJobs: true, acceptFullNetwork: true },
    executors: [executor],
    sources: [source],
    publishers: [publisher],
  },
})
// Removed before the second life of the node.
writeFileSync(join(plan.dataDir, 'hang'), '')
const job = dockerJob(plan.image, plan.script, {
  Publisher: { Type: 'copy' },
  ...(plan.until === 'Preparing'
    ? {
        InputSources: [
          {
            Source: { Type: 'text', Params: { HangFile: join(plan.dataDir, 'hang') } },
            Target: '/in',
            Alias: '',
          },
        ],
      }
    : {}),
  ...plan.task,
})
await orchestrator.run(job, { executionId: plan.executionId })
if (plan.until === 'Preparing' || plan.until === 'Running' || plan.until === 'Publishing') {
  await orchestrator.in(plan.executionId, plan.until, 30_000)
  // What it says first is in the node's own log by then.
  const read = { executionId: plan.executionId, cursor: 0, waitMs: 10_000, bytesMax: 1_000 }
  if (plan.script.startsWith('echo begun')) await transport.request(outputSubject(plan.nodeId), read, 15_000)
  arrived()
}
setInterval(() => {}, 1_000)
