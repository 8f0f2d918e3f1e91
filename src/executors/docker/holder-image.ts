import type Docker from 'dockerode'
import { createHash } from 'node:crypto'
import { WeirError } from '../../errors.js'
import { engineMessage, engineStatus } from './engine-connection.js'
import { LABEL_KIND } from './labels.js'
import { pauseProgram } from './pause-program.js'
import type { HolderArchitecture } from './pause-program.js'

/** The program inside the holder image. */
export const PAUSE_COMMAND = '/pause'

/**
 * Makes sure that the engine has the holder image and returns its name. The image is imported from bytes that weir
 * makes itself, so no registry is asked; its tag is the hash of the program. Nodes on one engine share it.
 *
 * Rejects with `engine.unavailable` for an architecture without a holder program.
 */
export async function ensureHolderImage(docker: Docker, architecture: string): Promise<string> {
  if (architecture !== 'amd64' && architecture !== 'arm64') {
    throw new WeirError('engine.unavailable', `Cannot make a holder for architecture "${architecture}"`, {
      hint: 'Use an x86-64 or arm64 machine for jobs with a network',
    })
  }
  const program = pauseProgram(architecture satisfies HolderArchitecture)
  const tag = createHash('sha256').update(program).digest('hex').slice(0, 12)
  const name = `weir-holder:${tag}`
  try {
    await docker.getImage(name).inspect()
    return name
  } catch (error) {
    if (engineStatus(error) !== 404) throw unusable(error)
  }
  try {
    await importImage(docker, await tarOf(program), tag)
  } catch (error) {
    throw unusable(error)
  }
  return name
}

async function importImage(docker: Docker, archive: Buffer, tag: string): Promise<void> {
  const { Readable } = await import('node:stream')
  const progress = (await docker.importImage(Readable.from([archive]) as unknown as string, {
    repo: 'weir-holder',
    tag,
    changes: `LABEL ${LABEL_KIND}=holder`,
  })) as NodeJS.ReadableStream
  // The import is done when the engine has said its last word.
  let said = ''
  for await (const chunk of progress) said = (said + chunk.toString()).slice(-10_000)
  if (said.includes('"error"')) throw new Error(said.slice(-500))
}

async function tarOf(program: Buffer): Promise<Buffer> {
  const { pack } = await import('tar-stream')
  const archive = pack()
  archive.entry({ name: PAUSE_COMMAND.slice(1), mode: 0o555, mtime: new Date(0) }, program)
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function unusable(error: unknown): WeirError {
  return new WeirError('engine.unavailable', `Cannot make the holder image: ${engineMessage(error)}`, {
    hint: 'Look at the log of the Docker engine',
    cause: error,
  })
}
