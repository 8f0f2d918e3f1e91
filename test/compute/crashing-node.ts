import { outputSubject } from '../../src/ports/index.js'
import { shellJob, startFixture } from './node-fixture.js'

/**
 * A program for tests: runs a compute node on the data directory `argv[2]` and tells on standard output what it has come
 * to, until it is killed. With `argv[3]` = `finish` its orchestrator never answers again once the job has begun.
 */
const [, , dataDir = '', how = ''] = process.argv
const fixture = await startFixture({ dataDir })
const { orchestrator, executor, transport } = fixture
const script =
  how === 'finish' ? 'echo result; sleep 0.3' : 'echo begun; echo x > "$OUT_outputs/file"; sleep 600'
const id = await orchestrator.run(shellJob(script, { Publisher: { Type: 'copy' } }))
await orchestrator.in(id, 'Running')
if (how === 'finish') {
  orchestrator.answers = false
  await orchestrator.ended(id)
} else {
  const request = { executionId: id, cursor: 0, waitMs: 10_000, bytesMax: 1_000 }
  await transport.request(outputSubject('n-test'), request, 15_000)
}
const sequence = orchestrator.observed.get(id)?.sequence ?? 0
const pids = [...executor.children].map(({ pid }) => pid)
process.stdout.write(`${JSON.stringify({ id, sequence, pids, state: orchestrator.state(id) })}\n`)
setInterval(() => {}, 1_000)
