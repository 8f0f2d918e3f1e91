// Kills a real server at random moments while it runs real jobs, and compares what it acknowledged with what is there.
// Needs a build; rows with containers need a Docker engine, rows with WebAssembly bubblewrap.
// `node scripts/crash-test.mjs [--kills 50] [--seed N]`. Ends with 1 when a promise was broken, naming each.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { WeirClient } from '../dist/client/index.js'
import { importBusyboxImage } from '../dist/demo/busybox-image.js'
import { randomFrom } from './crash-test/random.mjs'
import { CrashingServer } from './crash-test/server.mjs'
import { judge } from './crash-test/verdict.mjs'
import { Workload } from './crash-test/workload.mjs'

const { values } = parseArgs({
  options: { kills: { type: 'string', default: '50' }, seed: { type: 'string', default: '1' } },
})
const kills = Math.min(1_000, Math.max(1, Number(values.kills)))
const random = randomFrom(Number(values.seed))
const IMAGE = 'weir-crash/busybox:local'
/** Jobs that have not ended at the same time. */
const ACTIVE_MAX = 10

const directory = mkdtempSync(join(tmpdir(), 'weir-crash-'))
const image = await importBusyboxImage(IMAGE)
const server = await CrashingServer.create(directory)
const client = new WeirClient({ baseUrl: `http://127.0.0.1:${server.port}` })
const workload = new Workload({
  client,
  random,
  marks: server.marks,
  image: typeof image === 'string' ? '' : IMAGE,
})
let broken = ['the test did not come to its end']
try {
  if (typeof image === 'string') console.log(`without containers: ${image}`)
  await server.start()
  const submitting = workload.submitUntilStopped(ACTIVE_MAX)
  for (let kill = 1; kill <= kills; kill += 1) {
    const moment = await server.killAtRandom(random)
    await server.start()
    console.log(`kill ${String(kill).padStart(3)}/${kills}  ${moment.padEnd(30)}  ${workload.summary()}`)
  }
  await workload.stopSubmitting()
  await submitting
  await server.ready()
  console.log(`all kills done; waiting for ${workload.active.length} jobs`)
  await workload.waitForEnds(120_000)
  broken = await judge({ client, workload, server })
  await workload.endServices()
} finally {
  await workload.stopSubmitting()
  client.close()
  await server.close()
  if (typeof image !== 'string')
    await image.remove().catch((error) => console.log(`the image stays: ${error.message}`))
  rmSync(directory, { recursive: true, force: true })
}
for (const problem of broken) console.log(`BROKEN  ${problem}`)
console.log(broken.length === 0 ? `${kills} kills, nothing lost` : `${broken.length} promises broken`)
process.exitCode = broken.length === 0 ? 0 : 1
