import type Docker from 'dockerode'
import { WeirError } from '../../errors.js'
import { engineMessage, engineStatus } from './engine-connection.js'
import type { EngineConnection } from './engine-connection.js'
import { DEFAULT_REGISTRY, parseImageReference, pullName } from './image-reference.js'
import type { ImageReference } from './image-reference.js'
import type { DockerLimits, RegistryOptions } from './options.js'
import { followPull } from './pull-progress.js'
import { pullRefusal } from './pull-refusal.js'
import { guardRegistry } from './registry-guard.js'

/** An image that the engine has. */
export interface LocalImage {
  /** `sha256:…`: containers are made from this, so a tag that moves meanwhile changes nothing. */
  id: string
  /** The digest it was pulled by; empty for images that were built or imported here. */
  digest: string
  workingDirectory: string
}

/** Finds images, pulls what is missing, and refuses what the machine cannot run. */
export class ImageStore {
  readonly #connection: EngineConnection
  readonly #registries: RegistryOptions
  readonly #limits: DockerLimits
  readonly #pulls = new Map<string, Promise<void>>()

  constructor(connection: EngineConnection, registries: RegistryOptions, limits: DockerLimits) {
    this.#connection = connection
    this.#registries = registries
    this.#limits = limits
  }

  /**
   * The image of a reference, pulled when the engine does not have it. Rejects with `image.unavailable`, or the
   * signal's reason. Runs that ask for the same image at once share one pull.
   */
  async ensure(text: string, progress: (message: string) => void, signal: AbortSignal): Promise<LocalImage> {
    const reference = parseImageReference(text)
    const local = await this.#find(reference)
    if (local !== undefined) return local
    await this.#pullOnce(reference, progress, signal)
    const pulled = await this.#find(reference)
    if (pulled !== undefined) return pulled
    throw new WeirError(
      'image.unavailable',
      `Cannot use the image ${JSON.stringify(text)}: it is gone again`,
      {
        retryable: true,
        hint: 'Try again',
      },
    )
  }

  /** What speaks against a reference before anything is pulled. Throws `image.unavailable`. */
  async check(text: string): Promise<void> {
    const reference = parseImageReference(text)
    if ((await this.#find(reference)) !== undefined) return
    await this.#mayPull(reference)
  }

  async #mayPull(reference: ImageReference): Promise<void> {
    if (reference.isId) {
      throw new WeirError(
        'image.unavailable',
        `Cannot find the image ${JSON.stringify(reference.text)} on this node, and an image id cannot be pulled`,
        { hint: 'Use a name with tag or digest, or load the image on the node' },
      )
    }
    await guardRegistry(reference, this.#registries.allowPrivate ?? [])
  }

  async #find(reference: ImageReference): Promise<LocalImage | undefined> {
    const docker = await this.#connection.client()
    let found: Docker.ImageInspectInfo
    try {
      found = await docker.getImage(reference.text).inspect()
    } catch (error) {
      if (engineStatus(error) === 404) return undefined
      throw new WeirError(
        'engine.failed',
        `Cannot look for the image ${JSON.stringify(reference.text)}: ${engineMessage(error)}`,
        { retryable: true, cause: error, hint: 'Look at the log of the Docker engine' },
      )
    }
    await this.#checkPlatform(reference, found)
    return {
      id: found.Id,
      digest: digestOf(reference, found.RepoDigests ?? []),
      workingDirectory: found.Config?.WorkingDir ?? '',
    }
  }

  async #checkPlatform(
    { text }: ImageReference,
    { Os, Architecture }: Docker.ImageInspectInfo,
  ): Promise<void> {
    const { os, architecture } = await this.#connection.facts()
    const runs = [architecture, ...(NARROWER[architecture] ?? [])]
    // Imported images may say nothing about their platform; they run or fail by themselves.
    if ((Os === '' || Os === os) && (Architecture === '' || runs.includes(Architecture))) return
    throw new WeirError(
      'image.unavailable',
      `Cannot run the image ${JSON.stringify(text)}: it is made for ${Os}/${Architecture}, this node runs ${os}/${architecture}`,
      { hint: 'Use an image for this platform, or a node with the architecture of the image' },
    )
  }

  async #pullOnce(
    reference: ImageReference,
    progress: (message: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const name = pullName(reference)
    const running = this.#pulls.get(name)
    if (running !== undefined) {
      progress(`Waiting for the pull of ${name} that another execution started`)
      await abortable(running, signal)
      return
    }
    // The pull belongs to everybody who waits for it, so one run that gives up does not end it.
    const pull = this.#pull(reference, progress).finally(() => this.#pulls.delete(name))
    this.#pulls.set(name, pull)
    await abortable(pull, signal)
  }

  async #pull(reference: ImageReference, progress: (message: string) => void): Promise<void> {
    await this.#mayPull(reference)
    const docker = await this.#connection.client()
    const name = pullName(reference)
    const limit = AbortSignal.timeout(this.#limits.pullTimeoutMs)
    progress(`Pulling ${name}`)
    try {
      const stream = (await abortable(
        docker.pull(name, this.#login(reference.registry)),
        limit,
      )) as NodeJS.ReadableStream & { destroy(): void }
      await followPull(stream, { name, bytesMax: this.#limits.imageBytesMax, progress, signal: limit })
      await this.#checkSize(docker, reference)
    } catch (error) {
      throw pullRefusal(error, reference, this.#limits.pullTimeoutMs)
    }
    progress(`Pulled ${name}`)
  }

  /** The compressed size is watched during the pull; this is the unpacked one. */
  async #checkSize(docker: Docker, { text }: ImageReference): Promise<void> {
    const image = docker.getImage(text)
    const { Size } = await image.inspect()
    if (Size <= this.#limits.imageBytesMax) return
    await image.remove().catch(() => {
      /* Another container uses it; the refusal below stands. */
    })
    throw new WeirError(
      'image.unavailable',
      `Cannot use the image ${JSON.stringify(text)}: it has ${Size} bytes, the node takes at most ${this.#limits.imageBytesMax}`,
      { hint: 'Use a smaller image, or ask the operator of the node' },
    )
  }

  #login(registry: string): { authconfig?: Docker.AuthConfig } {
    const login = this.#registries.credentials?.[registry]
    if (login === undefined) return {}
    const serveraddress = registry === DEFAULT_REGISTRY ? 'https://index.docker.io/v1/' : registry
    return { authconfig: { ...login, serveraddress } as Docker.AuthConfig }
  }
}

/** What a processor runs beside its own instruction set. */
const NARROWER: Record<string, string[]> = { amd64: ['386'], arm64: ['arm'] }

function digestOf({ digest, registry, path }: ImageReference, digests: string[]): string {
  if (digest !== '') return digest
  const names = [`${registry}/${path}@`, `${path}@`]
  const own = digests.find((candidate) => names.some((name) => candidate.startsWith(name))) ?? digests[0]
  return own?.slice(own.indexOf('@') + 1) ?? ''
}

async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let stop = () => {}
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error)
    signal.addEventListener('abort', stop, { once: true })
  })
  work.catch(() => {
    /* Reported through the race, or to somebody else who waits. */
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
