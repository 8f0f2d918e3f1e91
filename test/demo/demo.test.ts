import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { expect, it } from 'vitest'
import { startDemoInternet } from '../../src/demo/internet.js'
import { processStartTime } from '../../src/owner-process.js'
import { entryPoint } from '../../src/package-root.js'
import { docker, noRoot, skipNote } from '../executors/docker/with-docker.js'
import { noSandbox } from '../node/running-node.js'

const reason = noRoot !== '' ? noRoot : noSandbox

it.skipIf(reason !== '')(
  `the demo shows every chapter and leaves nothing behind${skipNote(reason)}`,
  { timeout: 120_000 },
  async () => {
    const { exitCode, output } = await runDemo()
    expect(output).toMatch(/the demo is done in/)
    expect(output).not.toMatch(/^(skipped|failed): |unexpected: /m)
    expect(exitCode).toBe(0)
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('weir-demo-'))).toEqual([])
    const images = await docker.listImages({ filters: { reference: ['weir-demo/*'] } })
    expect(images).toEqual([])
  },
)

it.skipIf(process.getuid?.() !== 0)(
  'a demo that was killed leaves its network until the next one begins',
  async () => {
    const internet = entryPoint('demo/internet.js')
    const script = `import(${JSON.stringify(internet)}).then(async ({ startDemoInternet }) => {
      console.log((await startDemoInternet()).namespace)
      process.kill(process.pid, 'SIGKILL')
    })`
    const { signal, stdout } = spawnSync(process.execPath, ['-e', script], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const left = stdout.trim()
    expect([signal, left]).toEqual(['SIGKILL', expect.stringMatching(/^weir-demo-/)])
    expect(namespaces()).toContain(left)
    const web = spawnSync('ip', ['netns', 'pids', left], { encoding: 'utf8' }).stdout.trim()
    expect(existsSync(`/proc/${web}`)).toBe(true)
    const next = await startDemoInternet()
    if (typeof next === 'string') throw new Error(next)
    try {
      expect(namespaces()).not.toContain(left)
      expect(namespaces()).toContain(next.namespace)
      await expect.poll(() => existsSync(`/proc/${web}`) && processStartTime(Number(web))).toBeFalsy()
    } finally {
      await next.close()
    }
  },
)

function namespaces(): string[] {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' })
  return stdout.split('\n').map((line) => line.split(' ')[0] ?? '')
}

function runDemo(): Promise<{ exitCode: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [entryPoint('demo/main.js')], { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        output += data.toString()
      })
    }
    child.once('error', reject)
    child.once('close', (exitCode) => {
      resolve({ exitCode, output })
    })
  })
}
