import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

/** A site that answers badly, on an address that is not this machine's own. */
export interface RudeInternet {
  /** Of the site, port 80. */
  address: string
  /** This machine's end of the cable. */
  hostAddress: string
  /** What was asked of the site so far: `METHOD /path range`. */
  contacts(): Promise<string[]>
  close(): Promise<void>
}

/** Why the site cannot be had here; empty when it can. */
export const noInternet: string =
  process.getuid?.() !== 0
    ? 'needs root (it makes a network namespace)'
    : spawnSync('ip', ['netns', 'list']).status === 0
      ? ''
      : 'needs the command ip'

/** Makes a network namespace behind a virtual cable, with `rude-site.mjs` in it. */
export async function startRudeInternet(): Promise<RudeInternet> {
  const id = process.pid % 100_000
  const names = { namespace: `weir-rude-${id}`, here: `wr${id}h`, there: `wr${id}s` }
  const third = id % 250
  const [hostAddress, address] = [`10.212.${third}.1`, `10.212.${third}.2`]
  const remove = (): void => {
    spawnSync('ip', ['netns', 'del', names.namespace], { stdio: 'ignore' })
    spawnSync('ip', ['link', 'del', names.here], { stdio: 'ignore' })
  }
  const steps = [
    ['netns', 'add', names.namespace],
    ['link', 'add', names.here, 'type', 'veth', 'peer', 'name', names.there, 'netns', names.namespace],
    ['addr', 'add', `${hostAddress}/30`, 'dev', names.here],
    ['link', 'set', names.here, 'up'],
    ['-n', names.namespace, 'addr', 'add', `${address}/30`, 'dev', names.there],
    ['-n', names.namespace, 'link', 'set', names.there, 'up'],
    ['-n', names.namespace, 'link', 'set', 'lo', 'up'],
  ]
  for (const step of steps) {
    const { status, stderr } = spawnSync('ip', step, { encoding: 'utf8' })
    if (status === 0) continue
    remove()
    throw new Error(`ip ${step.join(' ')}: ${stderr}`)
  }
  const script = join(import.meta.dirname, 'rude-site.mjs')
  const server = spawn('ip', ['netns', 'exec', names.namespace, process.execPath, script, address], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await Promise.race([once(server.stdout, 'data'), once(server, 'exit')])
  if (server.exitCode !== null) {
    remove()
    throw new Error('the site did not start')
  }
  return {
    address,
    hostAddress,
    async contacts() {
      const asked = request({ host: address, path: '/contacts', agent: false }).end()
      const [response] = (await once(asked, 'response')) as [NodeJS.ReadableStream]
      return JSON.parse(await text(response)) as string[]
    },
    async close() {
      const gone = once(server, 'exit')
      server.kill('SIGTERM')
      await gone
      remove()
    },
  }
}
