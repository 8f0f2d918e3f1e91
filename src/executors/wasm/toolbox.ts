import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync, realpathSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { WeirError } from '../../errors.js'
import type { SandboxArch } from './syscalls.js'

const run = promisify(execFile)
const TOOL_TIMEOUT_MS = 10_000

/** The programs and files of this machine that the sandbox is made of. */
export interface Toolbox {
  arch: SandboxArch
  bwrap: string
  bwrapVersion: string
  /** bwrap can bind what an open descriptor refers to, so nobody can swap a path in between. */
  canBindDescriptors: boolean
  prlimit: string
  node: string
  /** Of that Node, like `v20.19.0`, and of its V8. */
  nodeVersion: string
  v8Version: string
  /** Shared libraries of Node, the loader included, at the paths where the loader looks for them. */
  libraries: string[]
}

/**
 * Finds everything the sandbox needs. `node` is the Node.js program for inside; empty = the one that runs this process.
 *
 * @throws WeirError `sandbox.unavailable` with what is missing and how to get it.
 */
export async function findToolbox(path = process.env.PATH ?? '', node = ''): Promise<Toolbox> {
  if (process.platform !== 'linux') {
    throw unavailable(
      `WebAssembly jobs need Linux, this is ${process.platform}`,
      'Run the compute node on Linux',
    )
  }
  if (process.arch !== 'x64' && process.arch !== 'arm64') {
    throw unavailable(
      `There is no system call list (seccomp) for the architecture ${process.arch}; without it a program that breaks out of WebAssembly could ask the kernel for anything`,
      'Run the compute node on x86_64 or arm64',
    )
  }
  const bwrap = findProgram('bwrap', path)
  if (bwrap === undefined) {
    throw unavailable(
      'bubblewrap (bwrap) is not installed; without its name spaces a program could see the machine’s files and network',
      'Install it: apt-get install bubblewrap',
    )
  }
  const prlimit = findProgram('prlimit', path)
  if (prlimit === undefined) {
    throw unavailable(
      'prlimit is not installed; without its limits a program could fill disks and take all descriptors',
      'Install it: apt-get install util-linux',
    )
  }
  const [version, help] = await Promise.all([output(bwrap, ['--version']), output(bwrap, ['--help'])])
  const bwrapVersion = version.trim().replace(/^bubblewrap /, '')
  checkBwrap(bwrap, bwrapVersion, help)
  const program = nodeProgram(node)
  return {
    arch: process.arch,
    bwrap,
    bwrapVersion,
    canBindDescriptors: help.includes('--ro-bind-fd'),
    prlimit,
    node: program,
    ...(await versionsOf(program)),
    libraries: await librariesOf(program),
  }
}

/** What the sandbox asks of bubblewrap. */
const BWRAP_OPTIONS = [
  '--unshare-all',
  '--cap-drop',
  '--seccomp',
  '--info-fd',
  '--block-fd',
  '--remount-ro',
  '--clearenv',
]

/** --clearenv is the newest of them (0.5.0): an older bubblewrap would stop each job with a line about its own usage. */
function checkBwrap(bwrap: string, version: string, help: string): void {
  const missing = BWRAP_OPTIONS.filter((one) => !help.includes(one))
  if (missing.length === 0) return
  throw unavailable(
    `bubblewrap ${version} (${bwrap}) is too old: it does not know ${missing.join(', ')}, without which the sandbox would not be closed`,
    'Install bubblewrap 0.5.0 or newer',
  )
}

function nodeProgram(configured: string): string {
  if (configured === '') return realpathSync(process.execPath)
  try {
    accessSync(configured, constants.X_OK)
    return realpathSync(configured)
  } catch (error) {
    throw unavailable(
      `The Node.js program for WebAssembly jobs ${JSON.stringify(configured)} cannot be run`,
      'Set Engines.Types.Wasm.Node to the path of a Node.js program, or leave it empty',
      error,
    )
  }
}

const MAJOR_MIN = 20

async function versionsOf(node: string): Promise<Pick<Toolbox, 'nodeVersion' | 'v8Version'>> {
  const { version, versions, arch } = process
  if (node === realpathSync(process.execPath)) return { nodeVersion: version, v8Version: versions.v8 }
  const script = 'console.log(process.version, process.versions.v8, process.arch)'
  const [nodeVersion = '', v8Version = '', itsArch = ''] = (await output(node, ['-e', script]))
    .trim()
    .split(' ')
  const major = Number(/^v(\d+)\./.exec(nodeVersion)?.[1])
  if (v8Version !== '' && itsArch === arch && major >= MAJOR_MIN) return { nodeVersion, v8Version }
  throw unavailable(
    `${node} is not Node.js ${MAJOR_MIN} or newer for ${arch}`,
    'Set Engines.Types.Wasm.Node to such a program, or leave it empty',
  )
}

function findProgram(name: string, path: string): string | undefined {
  for (const directory of [...path.split(delimiter), '/usr/bin', '/bin', '/usr/local/bin']) {
    if (!directory.startsWith('/')) continue
    const file = join(directory, name)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      // Not in this directory; the next one may have it.
    }
  }
  return undefined
}

async function output(program: string, args: string[]): Promise<string> {
  try {
    const { stdout } = await run(program, args, { timeout: TOOL_TIMEOUT_MS, env: {}, maxBuffer: 1024 * 1024 })
    return stdout
  } catch (error) {
    throw unavailable(
      `Cannot run ${program}: ${(error as Error).message.split('\n')[0]}`,
      'Check the installation',
      error,
    )
  }
}

/** Asks the program's own loader, as ldd does; a static program has none and needs nothing. */
async function librariesOf(program: string): Promise<string[]> {
  const loader = await loaderOf(program)
  if (loader === undefined) return []
  const listed = await output(loader, ['--list', program])
  const found = new Set([loader])
  for (const line of listed.split('\n')) {
    const path = /=> (\/\S+) \(0x/.exec(line)?.[1] ?? /^\s*(\/\S+) \(0x/.exec(line)?.[1]
    if (path !== undefined && path !== program) found.add(path)
    if (line.includes('not found'))
      throw unavailable(`Node needs a library that is missing: ${line.trim()}`, 'Repair Node')
  }
  return [...found].filter((one) => existsSync(one))
}

/** PT_INTERP of a 64-bit ELF file. */
async function loaderOf(program: string): Promise<string | undefined> {
  const file = await open(program, 'r')
  try {
    const header = Buffer.alloc(64)
    await file.read(header, 0, 64, 0)
    if (header.toString('latin1', 0, 4) !== '\x7fELF' || header[4] !== 2) {
      throw unavailable(
        `${program} is not a 64-bit program`,
        'Run the node with Node.js itself, not with a wrapper',
      )
    }
    const tableAt = Number(header.readBigUInt64LE(32))
    const entryBytes = header.readUInt16LE(54)
    const count = header.readUInt16LE(56)
    for (let index = 0; index < count; index++) {
      const entry = Buffer.alloc(56)
      await file.read(entry, 0, 56, tableAt + index * entryBytes)
      if (entry.readUInt32LE(0) !== 3) continue
      const size = Number(entry.readBigUInt64LE(32))
      if (size > 4096) break
      const name = Buffer.alloc(size)
      await file.read(name, 0, size, Number(entry.readBigUInt64LE(8)))
      return name.toString('latin1').replace(/\0.*$/, '')
    }
    return undefined
  } finally {
    await file.close()
  }
}

function unavailable(message: string, hint: string, cause?: unknown): WeirError {
  return new WeirError('sandbox.unavailable', message, { hint, cause })
}
