import { entryPoint } from '../../package-root.js'
import type { Toolbox } from './toolbox.js'

/** A directory or file that the sandbox gets to see. */
export interface Bind {
  /** Path inside the sandbox. */
  at: string
  writable: boolean
  /** Path on the node, or an open descriptor by its number in the sandbox's process. */
  from: string | number
}

export interface SandboxCommandOptions {
  toolbox: Toolbox
  binds: Bind[]
  /** Largest file it can write. */
  fileBytesMax: number
  openFilesMax: number
  /** The bundled runner; tests of the sandbox itself pass other programs. */
  runner?: string
  /** A start-up snapshot of the runner; absent = the runner is read and compiled by each sandbox. */
  snapshot?: string | undefined
}

/** Descriptors of bubblewrap's own; 3, 4 and 8 belong to the runner. */
export const SECCOMP_FD = 5
export const INFO_FD = 6
export const BLOCK_FD = 7
export const FIRST_BIND_FD = 9

/** Node's own descriptors: event loops, the worker threads' wake-ups. */
const SPARE_DESCRIPTORS = 64

/**
 * The command that starts one sandbox, outside in: resource limits → name spaces, a root that holds nothing but Node,
 * its libraries, the runner and the job's directories, no /proc, /dev or /sys, no environment → system call list.
 *
 * Run by root, the processes keep root's number on the outside, without any capability, and 65534 inside: so they can
 * read inputs that only root may read, and nothing that was not bound.
 */
export function sandboxCommand(options: SandboxCommandOptions): { command: string; args: string[] } {
  const { toolbox, binds, snapshot, runner = RUNNER } = options
  const readOnly = [
    ['--ro-bind', toolbox.node, '/bin/node'],
    ...toolbox.libraries.map((one) => ['--ro-bind', one, one]),
    snapshot === undefined ? ['--ro-bind', runner, '/run.cjs'] : ['--ro-bind', snapshot, '/run.blob'],
  ]
  const limits = [
    `--fsize=${Math.ceil(options.fileBytesMax)}`,
    `--nofile=${options.openFilesMax + SPARE_DESCRIPTORS}`,
    '--core=0',
    '--memlock=0',
    '--msgqueue=0',
  ]
  const isolation =
    '--unshare-all --unshare-user --die-with-parent --new-session --cap-drop ALL --clearenv'.split(' ')
  const identity = '--uid 65534 --gid 65534 --hostname sandbox'.split(' ')
  // Without remounting it the root is a writable file system in memory, without limit.
  const closing = '--remount-ro / --chdir /'.split(' ')
  const control = `--seccomp ${SECCOMP_FD} --info-fd ${INFO_FD} --block-fd ${BLOCK_FD}`.split(' ')
  const jail = [
    ...isolation,
    ...identity,
    ...readOnly.flat(),
    ...binds.flatMap(bindArguments),
    ...closing,
    ...control,
  ]
  const start = snapshot === undefined ? ['/run.cjs'] : ['--snapshot-blob', '/run.blob']
  const program = ['/bin/node', ...NODE_FLAGS, ...start]
  const args = [...limits, '--', toolbox.bwrap, ...jail, '--', ...program]
  return { command: toolbox.prlimit, args }
}

/** The one program that runs inside. */
export const RUNNER = entryPoint('executors/wasm/sandbox/runner.cjs')

/**
 * Snapshots and compiled code are taken only under the very flags under which they were made. With a fixed seed for hash
 * tables, part of the snapshot, a program could slow down look-ups of its own file names, and nobody else's.
 */
export const NODE_FLAGS: readonly string[] = [
  '--no-warnings',
  '--max-old-space-size=256',
  '--no-rehash-snapshot',
]

function bindArguments({ at, writable, from }: Bind): string[] {
  const option = writable ? '--bind' : '--ro-bind'
  return typeof from === 'number' ? [`${option}-fd`, String(from), at] : [option, from, at]
}
