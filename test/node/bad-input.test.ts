import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { downloadResults, packDirectory, type WeirClient, type WireJob } from '../../src/client/index.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { docker, importImage, noDocker, skipNote } from '../executors/docker/with-docker.js'
import { noInternet, startRudeInternet, type RudeInternet } from './rude-internet.js'
import {
  containerJob,
  csvJob,
  CSV_MODULE,
  noSandbox,
  runJob,
  type TestNode,
  withDirectory,
  withNode,
} from './running-node.js'

const PATIENCE = [
  'Orchestrator.Scheduler.RetryBackoff=100ms',
  'Orchestrator.Scheduler.TriesMax=2',
  'InputSources.MaxRetryCount=1',
  'InputSources.ReadTimeout=1s',
]

/** A node with one engine. */
function withEngine<T>(
  engine: 'docker' | 'wasm',
  settings: string[],
  use: (node: TestNode, dir: string) => Promise<T>,
): Promise<T> {
  const disabled = `Engines.Disabled=${engine === 'docker' ? 'wasm' : 'docker'}`
  return withDirectory((dir) =>
    withNode(join(dir, 'data'), [disabled, ...PATIENCE, ...settings], (node) => use(node, dir)),
  )
}

function fixtureJob(name: string, more: object = {}): object {
  const bytes = readFileSync(join(PACKAGE_ROOT, 'test/fixtures/wasm/bin', `${name}.wasm`))
  const URL = `data:application/wasm;base64,${bytes.toString('base64')}`
  const EntryModule = { Source: { Type: 'inline', Params: { URL } }, Target: `/${name}.wasm` }
  return {
    Type: 'batch',
    Tasks: [{ Name: 'main', Engine: { Type: 'wasm', Params: { EntryModule } }, ...more }],
  }
}

/** What a user sees of a job that failed: the job, its executions, its history. */
async function told(client: WeirClient, { ID, State }: WireJob) {
  const executions = (await client.executions(ID)).Items
  const history = (await client.history(ID, { limit: 500 })).Items
  return {
    state: State.StateType,
    message: State.Message,
    tries: executions.length,
    errors: executions.map(({ ComputeState }) => ComputeState?.Message ?? ''),
    hints: executions.map(({ ComputeState }) => ComputeState?.Details?.Hint ?? ''),
    codes: executions.map(({ ComputeState }) => ComputeState?.Details?.ErrorCode ?? ''),
    history: history.map(({ Event }) => `${Event.Topic}: ${Event.Message}`),
    outputs: executions.map(({ RunOutput }) => RunOutput),
  }
}

describe.skipIf(noSandbox !== '' || noInternet !== '')(
  `an input by URL${skipNote(noSandbox || noInternet)}`,
  () => {
    let internet: RudeInternet
    let module = ''
    beforeAll(async () => {
      internet = await startRudeInternet()
      module = await packDirectory(CSV_MODULE)
    })
    afterAll(() => internet.close())

    const listed = () => [`Egress.PrivateExceptions=${internet.address}:80`]
    const job = (path: string, more: object = {}) =>
      csvJob(module, {
        InputSources: [
          {
            Source: { Type: 'urlDownload', Params: { URL: `http://${internet.address}${path}` } },
            Target: '/inputs',
          },
        ],
        ...more,
      })
    const failing = (path: string, more: object = {}, settings: string[] = []) =>
      withEngine('wasm', [...listed(), ...settings], async ({ client }) => {
        const result = await told(client, await runJob(client, job(path, more)))
        expect(result.state).toBe('Failed')
        return result
      })

    it('that breaks off is continued where it broke', () =>
      withEngine('wasm', listed(), async ({ client }) => {
        const result = await told(client, await runJob(client, job('/cut.csv')))
        // The program is not given what it expects; the input itself is whole.
        expect(result.history.join('\n')).toMatch(/Inputs are ready \(4\d\d kB on disk\)/)
        expect(await internet.contacts()).toContain('GET /cut.csv bytes=200000-')
      }))

    it('that answers 404 fails the job once, with the status and what to do', async () => {
      const result = await failing('/missing.csv')
      expect(result).toMatchObject({ tries: 1, codes: ['source.unavailable'] })
      expect(result.errors[0]).toMatch(/Cannot fetch "http:\/\/[\d.]+\/missing.csv": the server answered 404/)
      expect(result.hints[0]).toMatch(/Check the URL/)
      expect(result.message).toContain('404')
    })

    it('that redirects to the metadata service, to this machine or to the API reaches none of them', async () => {
      let touched = 0
      const here = createServer((_request, response) => {
        touched += 1
        response.end('secret')
      }).listen(0, '0.0.0.0')
      await once(here, 'listening')
      const { port } = here.address() as { port: number }
      try {
        await withEngine('wasm', listed(), async ({ client, apiUrl }) => {
          for (const to of [
            'http://169.254.169.254/latest/meta-data/',
            `http://${internet.hostAddress}:${port}/`,
            `http://127.0.0.1:${port}/`,
            `${apiUrl}/api/v1/orchestrator/jobs`,
          ]) {
            const path = `/redirect.csv?to=${encodeURIComponent(to)}`
            const result = await told(client, await runJob(client, job(path)))
            expect(result).toMatchObject({ state: 'Failed', tries: 1, codes: ['source.refused'] })
            expect(result.errors[0]).toContain(`Cannot fetch "${new URL(to).origin}`)
            expect(result.hints[0]).not.toBe('')
          }
        })
      } finally {
        here.close()
      }
      expect(touched).toBe(0)
    })

    it('that drips for ever ends at the time limit of inputs, which the message names', async () => {
      const result = await failing('/drip.csv')
      expect(result.errors[0]).toMatch(/Cannot fetch ".*drip.csv" within 1 s/)
      expect(result.hints[0]).toContain('InputSources.ReadTimeout')
    })

    it('that never answers ends at the time limit as well', async () => {
      const result = await failing('/silent.csv')
      expect(result.errors[0]).toMatch(/within 1 s/)
    })

    it('that never ends and is fast stops at the disk that the job asked for', async () => {
      const result = await failing('/flood.csv', { Resources: { Disk: '3mb' } })
      expect(result).toMatchObject({ tries: 1, codes: ['source.too_large'] })
      expect(result.errors[0]).toMatch(/3 MB|3000000 bytes/)
      expect(result.hints[0]).toMatch(/disk/i)
    })

    it('that is larger than the disk of the node is refused before it is fetched', async () => {
      const result = await failing('/huge.csv')
      expect(result).toMatchObject({ tries: 1, codes: ['source.too_large'] })
      expect(result.errors[0]).toMatch(/The inputs need 10 TB of disk/)
    })

    it('is taken when nothing is wrong with it', () =>
      withEngine('wasm', listed(), async ({ client }) => {
        const asked = JSON.stringify(job('/fine.csv')).replace('/inputs/sales.csv', '/inputs/fine.csv')
        const result = await told(client, await runJob(client, JSON.parse(asked) as object))
        expect(result.outputs[0]).toMatchObject({ Stdout: '2 rows, 2 keys\n', ExitCode: 0 })
      }))
  },
)

describe.skipIf(noSandbox !== '')(`a program without end${skipNote(noSandbox)}`, () => {
  it('is ended once at the total timeout, within a second, with one message', () =>
    withEngine('wasm', [], async ({ client }) => {
      const startMs = Date.now()
      const job = await runJob(client, fixtureJob('endless', { Timeouts: { TotalTimeout: 1 } }))
      expect(Date.now() - startMs).toBeLessThan(2_500)
      const result = await told(client, job)
      expect(result).toMatchObject({ state: 'Failed', tries: 1 })
      expect(result.message).toMatch(/timed out.*1s/i)
      expect(result.history.filter((line) => /timed out/i.test(line))).toHaveLength(1)
      // Nothing starts anew behind the user's back.
      await new Promise((resolve) => setTimeout(resolve, 500))
      expect((await client.executions(job.ID)).Items).toHaveLength(1)
    }))

  it('is ended at the execution timeout, and tried again as its retries say', () =>
    withEngine('wasm', [], async ({ client }) => {
      const job = await runJob(client, fixtureJob('sleep-hour', { Timeouts: { ExecutionTimeout: 1 } }))
      const result = await told(client, job)
      expect(result.state).toBe('Failed')
      expect(result.codes).toEqual(['execution.timeout', 'execution.timeout'])
      expect(result.errors[0]).toBe('Execution timed out after 1s')
    }))

  it('that floods its output is kept up to the bound, and says so', () =>
    withEngine('wasm', ['Compute.OutputBytesMax=100kb'], async ({ client }) => {
      const job = await runJob(
        client,
        fixtureJob('flood', { Timeouts: { TotalTimeout: 3 }, Publisher: { Type: 'local' } }),
      )
      let bytes = 0
      for await (const { data } of client.logs(job.ID)) bytes += data.length
      expect(bytes).toBeGreaterThan(50_000)
      expect(bytes).toBeLessThanOrEqual(100_000)
      // The job may end before its node has told the last of it.
      await expect
        .poll(async () => (await told(client, job)).outputs[0])
        .toMatchObject({ StdoutTruncated: true })
      const { history } = await told(client, job)
      // What ran into a limit keeps its logs and publishes nothing.
      expect((await client.results(job.ID)).Items).toEqual([])
      expect(history.join('\n')).toMatch(/more output than the node keeps|timed out/i)
    }))
})

describe('a job that asks for http without any host', () => {
  it('is refused when it is submitted, and the message says what to add', () =>
    withDirectory((dir) =>
      withNode(join(dir, 'data'), ['Engines.Disabled=docker,wasm'], async ({ client }) => {
        const job = containerJob('x', ['true'], { Network: { Type: 'HTTP' } })
        await expect(client.submit(job)).rejects.toMatchObject({
          code: 'spec.invalid',
          message: expect.stringContaining('at least one domain is required') as unknown,
          hint: expect.stringContaining('--domain') as unknown,
        })
        expect((await client.jobs()).Items).toEqual([])
      }),
    ))
})

describe('a job that asks for GPUs where no engine can give any', () => {
  it('fails at once and says so', () =>
    withDirectory((dir) =>
      withNode(
        join(dir, 'data'),
        ['Engines.Disabled=docker', 'Compute.AllocatedCapacity.GPU=4'],
        async ({ client }) => {
          const result = await told(
            client,
            await runJob(client, fixtureJob('noop', { Resources: { GPU: '1' } })),
          )
          expect(result).toMatchObject({ state: 'Failed', tries: 0 })
          expect(result.message).toMatch(/0 GPU.*1 asked/)
        },
      ),
    ))
})

describe.skipIf(noDocker !== '')(`an output directory${skipNote(noDocker)}`, () => {
  const image = 'weir-test-bad-input:1'
  beforeAll(() => importImage(image, { 'bin/busybox': '/bin/busybox', 'bin/sh': '-> busybox' }))
  afterAll(() => docker.getImage(image).remove({ force: true }))
  const sh = (script: string, more: object = {}) =>
    containerJob(image, ['/bin/sh', '-c', `/bin/busybox --install -s /bin; ${script}`], {
      Publisher: { Type: 'local' },
      ...more,
    })

  it(
    'with links, pipes and other oddities: files are published, the rest is named',
    { timeout: 60_000 },
    () =>
      withEngine('docker', [], async ({ client }, dir) => {
        const script = [
          'cd /outputs',
          'echo good > good.txt',
          'ln -s /etc/passwd passwd; ln -s . loop; ln good.txt twin',
          'mkfifo pipe',
          'mkdir sub; echo deep > sub/deep.txt; ln -s / sub/root',
          'chmod 0 sub/deep.txt; chmod 4777 good.txt',
          'printf x > "$(printf "bad\\033[31mname")"',
        ].join('; ')
        const job = await runJob(client, sh(script))
        const result = await told(client, job)
        expect(result).toMatchObject({ state: 'Completed', outputs: [{ stderr: '', ExitCode: 0 }] })
        const notes = result.history.filter((line) => line.includes('Not published')).join('\n')
        for (const name of ['passwd', 'loop', 'pipe', 'sub/root'])
          expect(notes).toMatch(new RegExp(`outputs/${name} \\(it is`))
        expect(notes).not.toContain('\u001b')
        const outputDir = join(dir, 'results')
        const { files } = await downloadResults((await client.results(job.ID)).Items, {
          outputDir,
          raw: false,
          signal: AbortSignal.timeout(20_000),
        })
        expect(files.filter((name) => name.startsWith('outputs/')).toSorted()).toEqual(
          [
            'outputs/bad\u001b[31mname',
            'outputs/good.txt',
            'outputs/sub/deep.txt',
            'outputs/twin',
          ].toSorted(),
        )
        expect(await readFile(join(outputDir, 'outputs/sub/deep.txt'), 'utf8')).toBe('deep\n')
      }),
  )

  it(
    'with more files than allowed ends the program, or leaves out what came too quickly',
    {
      timeout: 60_000,
    },
    () =>
      withEngine('docker', ['Compute.ResultFilesMax=200'], async ({ client }) => {
        const endless = 'i=0; while :; do i=$((i+1)); : > /outputs/f$i; done'
        const ended = await told(client, await runJob(client, sh(endless)))
        expect(ended).toMatchObject({ state: 'Failed' })
        expect(ended.codes[0]).toBe('compute.disk')
        expect(ended.errors[0]).toBe('The program made more than 200 files')
        const quick = 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); : > /outputs/f$i; done'
        const result = await told(client, await runJob(client, sh(quick)))
        if (result.state === 'Completed')
          expect(result.history.join('\n')).toContain('the limit of 200 files and directories was reached')
        else expect(result.codes[0]).toBe('compute.disk')
      }),
  )
})
