/**
 * One compute node of a `weir devstack`, in a process of its own. It obeys its parent over IPC; when the parent is gone,
 * however it ended, the node ends what it runs and removes what is temporary.
 */
import { rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { toWeirError } from '../../errors.js'
import { configOf } from '../devstack/overlay.js'
import type { MemberInit, MemberReport } from '../devstack/member.js'
import { type RunningNode, startNode } from '../start-node.js'

const LEAVE_MS = 25_000

let node: RunningNode | undefined
let init: MemberInit | undefined
let leaving = false

process.once('message', (message: MemberInit) => {
  init = message
  process.on('message', () => void leave())
  void start(message)
})
process.on('disconnect', () => void leave())
process.on('SIGTERM', () => void leave())
for (const signal of ['SIGINT', 'SIGHUP'] as const) {
  // A terminal sends these to the whole group; the parent decides when this process ends.
  process.on(signal, () => {})
}

async function start({ config, name, joinSecret, logLevel }: MemberInit): Promise<void> {
  try {
    node = await startNode({
      config: configOf(config),
      roles: { orchestrator: false, compute: true },
      name,
      joinSecret,
      logLevel,
    })
    if (leaving) await end()
    else report({ ready: { apiUrl: node.apiUrl } })
  } catch (error) {
    const { code, message, hint } = toWeirError(error)
    report({ failed: { code, message, ...(hint === undefined ? {} : { hint }) } })
    await end()
  }
}

function report(message: MemberReport): void {
  if (process.connected) process.send?.(message)
}

async function leave(): Promise<void> {
  if (leaving) return
  leaving = true
  // What hangs must not keep a process that nobody waits for.
  setTimeout(() => process.exit(1), LEAVE_MS).unref()
  // A node that is still starting ends itself when it has started; without one there is nothing to wait for.
  if (node !== undefined || init === undefined) await end()
}

async function end(): Promise<void> {
  await node?.close()
  if (init !== undefined && init.removeWhenOrphaned !== '' && !process.connected) await removeStack(init)
  process.exit(0)
}

/** The orchestrator's part has lost its owner too. The last member finds the common directory empty. */
async function removeStack({ config, removeWhenOrphaned }: MemberInit): Promise<void> {
  await rm(config.dataDir, { recursive: true, force: true })
  await rm(join(removeWhenOrphaned, 'orchestrator'), { recursive: true, force: true })
  await rmdir(removeWhenOrphaned).catch(() => {
    // Another member is still leaving.
  })
}
