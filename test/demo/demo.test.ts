import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { expect, it } from 'vitest'
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
