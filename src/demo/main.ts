import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WeirClient } from '../client/index.js'
import { makeRunDirectory } from '../run-directory.js'
import { importBusyboxImage } from './busybox-image.js'
import { colours } from './colours.js'
import { type DemoInternet, startDemoInternet } from './internet.js'
import { Narrator } from './narrator.js'
import { startDemoServer } from './server.js'

/**
 * The main job, shown on real parts and checked: each step says what it expects, and the demo fails when something
 * else happens. Works without internet; leaves nothing behind.
 */
const IMAGE = 'weir-demo/busybox:local'
/** Relative to the package, where the commands run. */
const MODULE = 'examples/csv-summary/csv-summary.wasm'

const failures: string[] = []
const skipped: string[] = []

const started = Date.now()
const directory = await makeRunDirectory(tmpdir(), 'weir-demo')
const closing: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })]
process.once('SIGINT', () => {
  void closeAll().then(() => process.exit(130))
})
try {
  await demo()
} catch (error) {
  failures.push(error instanceof Error ? error.message : String(error))
} finally {
  await closeAll()
}
report()

async function demo(): Promise<void> {
  console.log(colours.bold('weir: strangers’ code with exactly the internet access that was granted'))
  const internet = await startDemoInternet()
  if (typeof internet === 'string') console.log(colours.yellow(`no demo internet: ${internet}`))
  else closing.push(() => internet.close())
  const image = await importBusyboxImage(IMAGE)
  if (typeof image === 'string') console.log(colours.yellow(`no Docker jobs: ${image}`))
  else closing.push(() => image.remove())

  const server = await startDemoServer(join(directory, 'open'), {
    'JobAdmissionControl.AcceptNetworkedJobs': true,
    'Egress.Allow': ['data.demo.test', '.docs.demo.test'],
    ...(typeof internet === 'string' ? {} : internetConfig(internet)),
  })
  closing.push(() => server.close())
  const weir = new Narrator({ WEIR_API_PORT: String(server.port), WEIR_DIR: join(directory, 'client') })
  console.log(
    colours.dim(`a server runs; to repeat the commands while it does: export WEIR_API_PORT=${server.port}`),
  )

  const missing = await whatTheNodeLacks(server.port)
  if (missing.wasm === undefined) await wasmChapter(weir, typeof internet === 'string' ? undefined : internet)
  else skipped.push(`the WebAssembly job: ${missing.wasm}`)
  const lacks = [internet, image].find((part) => typeof part === 'string') ?? missing.http
  if (typeof internet === 'string' || typeof image === 'string' || missing.http !== undefined) {
    skipped.push(`the Docker job with listed hosts: ${String(lacks)}`)
    return
  }
  await networkChapter(weir, internet, server.port)
  await refusalChapter(weir)
}

/** Why this machine cannot run a chapter, by the node's own account; undefined when it can. */
async function whatTheNodeLacks(
  port: number,
): Promise<{ wasm: string | undefined; http: string | undefined }> {
  const client = new WeirClient({ baseUrl: `http://127.0.0.1:${port}` })
  try {
    const info = await client.agentNode()
    const engines = info.ComputeNodeInfo?.ExecutionEngines ?? []
    const reason = (engine: string): string => info.EngineProblems[engine] ?? `the node offers no ${engine}`
    return {
      wasm: engines.includes('wasm') ? undefined : reason('wasm'),
      http: !engines.includes('docker')
        ? reason('docker')
        : info.Egress.HTTPEngines.includes('docker')
          ? undefined
          : ['the node offers no http network', ...info.Egress.Problems].join('; '),
    }
  } finally {
    client.close()
  }
}

/** The demo's sites have a private address, so the operator lists them one by one. */
function internetConfig(internet: DemoInternet): Record<string, unknown> {
  const names = ['data.demo.test', 'www.docs.demo.test', 'evil.demo.test']
  return {
    'Egress.Hosts': Object.fromEntries(names.map((name) => [name, internet.address])),
    'Egress.PrivateExceptions': ['data.demo.test:80', 'www.docs.demo.test:80'],
  }
}

async function wasmChapter(weir: Narrator, internet: DemoInternet | undefined): Promise<void> {
  weir.chapter('A WebAssembly program sums a CSV file')
  weir.say(
    'It has no network. The node fetches the input before the program starts, and keeps what it writes.',
  )
  if (internet === undefined) skipped.push('the input by URL (needs root); an inline input stands in for it')
  const url =
    internet === undefined
      ? 'data:text/csv,row%2Ccity%2Camount%0A0%2Cparis%2C3%0A1%2Clima%2C4%0A'
      : 'http://data.demo.test/sales.csv'
  const input = internet === undefined ? `src=${url},dst=/inputs/sales.csv` : url
  const id = await weir.weir([
    'wasm',
    'run',
    '--id-only',
    '--publisher',
    'local',
    '--input',
    input,
    '-o',
    'totals:/outputs',
    MODULE,
    '/inputs/sales.csv',
    '/outputs/totals.csv',
    '2',
    '3',
  ])
  const job = id.stdout.trim()
  expect(id.exitCode === 0 && job.startsWith('j-'), `the WebAssembly job ended with exit code ${id.exitCode}`)
  const results = join(directory, 'results')
  const got = await weir.weir(['job', 'get', job, '--output-dir', results])
  expect(got.exitCode === 0, 'the results could not be downloaded')
  const totals = await readFile(join(results, 'totals/totals.csv'), 'utf8').catch(() => '')
  console.log(totals.replace(/^(?=.)/gm, '  '))
  expect(totals.includes('paris,'), 'the results are not what the program computes')
}

async function networkChapter(weir: Narrator, internet: DemoInternet, apiPort: number): Promise<void> {
  weir.chapter('A container that may reach one host')
  weir.say(
    'It asks for data.demo.test, with the proxy and like a program that knows of none. It then tries another host, the machine it runs on, and the API of weir.',
  )
  const script = [
    'echo allowed: $(wget -q -O- http://data.demo.test/ 2>&1)',
    'echo without proxy: $(unset http_proxy; wget -q -O- http://data.demo.test/ 2>&1)',
    'echo refused: $(wget -q -O- http://evil.demo.test/ 2>&1)',
    `echo machine, directly: $(nc -w 3 ${internet.hostAddress} ${apiPort} 2>&1 </dev/null || echo no way)`,
    `echo api, by the gateway: $(wget -q -O- http://${internet.hostAddress}:${apiPort}/api/v1/agent/alive 2>&1)`,
    'echo interfaces: $(ip -o link | wc -l)',
  ].join('; ')
  const ran = await weir.weir([
    'docker',
    'run',
    '--network',
    'http',
    '--domain',
    'data.demo.test',
    IMAGE,
    'sh',
    '-c',
    script,
  ])
  expect(ran.exitCode === 0, `the container job ended with exit code ${ran.exitCode}`)
  expect(ran.stdout.includes('allowed: hello from data.demo.test'), 'the listed host was not reached')
  expect(
    ran.stdout.includes('without proxy: hello from data.demo.test'),
    'the listed host was not reached without the proxy variables',
  )
  expect(
    ran.stdout.includes('machine, directly: ') && ran.stdout.includes('no way'),
    'the machine was reached without the gateway',
  )
  expect(!ran.stdout.includes('hello from evil'), 'a host that was not listed was reached')
  expect(
    !ran.stdout.includes('"Status"') && !ran.stdout.includes('OK'),
    'the API was reached from inside a job',
  )
  expect(/interfaces: 1$/m.test(ran.stdout), 'the job has more interfaces than loopback')

  weir.chapter('Where did it connect?')
  const id = /^Job (j-\S+) submitted/m.exec(ran.stderr)?.[1] ?? ''
  const egress = await weir.weir(['job', 'egress', id])
  expect(egress.stdout.includes('egress.not_in_job_list'), 'the refusal is not in the audit')
  expect(egress.stdout.includes('egress.self'), 'the attempt to reach the API is not in the audit')
}

async function refusalChapter(before: Narrator): Promise<void> {
  const server = await startDemoServer(join(directory, 'closed'), {})
  closing.push(() => server.close())
  const weir = before.elsewhere({ WEIR_API_PORT: String(server.port), WEIR_DIR: join(directory, 'client') })
  weir.chapter('The same job on a node that accepts no networked jobs (the default)')
  const ran = await weir.weir([
    'docker',
    'run',
    '--network',
    'http',
    '--domain',
    'data.demo.test',
    IMAGE,
    'true',
  ])
  expect(ran.exitCode !== 0, 'a node ran a networked job that its operator did not allow')
  expect(/networked jobs/.test(ran.stderr + ran.stdout), 'the refusal does not say why')
}

function expect(condition: boolean, otherwise: string): void {
  if (condition) return
  failures.push(otherwise)
  console.log(colours.red(`  unexpected: ${otherwise}`))
}

async function closeAll(): Promise<void> {
  for (const close of closing.splice(0).reverse())
    await close().catch((error: Error) => failures.push(error.message))
}

function report(): void {
  console.log('')
  for (const what of skipped) console.log(colours.yellow(`skipped: ${what}`))
  for (const what of failures) console.log(colours.red(`failed: ${what}`))
  const seconds = ((Date.now() - started) / 1000).toFixed(1)
  if (failures.length > 0) {
    console.log(colours.red(`the demo failed after ${seconds} s`))
    process.exitCode = 1
  } else console.log(colours.green(`the demo is done in ${seconds} s; nothing is left behind`))
}
