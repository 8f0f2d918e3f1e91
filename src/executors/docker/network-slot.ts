import type { GatewayAttachment, NetworkSlot } from '../../ports/index.js'

/** A network that this executor made for one run; others' slots carry nothing it could join. */
export class DockerNetworkSlot implements NetworkSlot {
  readonly mode: 'none' | 'http' | 'full'
  readonly attachment?: GatewayAttachment
  /** The engine's word for the network to join: `container:<id>` or `none`. */
  readonly networkMode: string
  /** Lines of the job's `/etc/resolv.conf`. */
  readonly resolvConf: string
  /** The job's address in mode `full`. */
  readonly address: string
  readonly #giveBack: () => Promise<void>
  readonly #letGo: () => Promise<void>
  #released: Promise<void> | undefined

  constructor(input: {
    mode: 'none' | 'http' | 'full'
    networkMode: string
    resolvConf: string
    attachment?: GatewayAttachment
    address?: string
    giveBack: () => Promise<void>
    /** Leaves the network to the program in it. */
    letGo: () => Promise<void>
  }) {
    this.mode = input.mode
    this.networkMode = input.networkMode
    this.resolvConf = input.resolvConf
    if (input.attachment !== undefined) this.attachment = input.attachment
    this.address = input.address ?? ''
    this.#giveBack = input.giveBack
    this.#letGo = input.letGo
  }

  release(): Promise<void> {
    this.#released ??= this.#giveBack()
    return this.#released
  }

  leave(): Promise<void> {
    this.#released ??= this.#letGo()
    return this.#released
  }
}

/** Without a name server programs ask their own loopback, where nobody listens, and fail at once instead of waiting. */
export const NO_NAME_SERVERS = '# this job has no name servers\n'

/**
 * The job's `/etc/resolv.conf`. The name server is on the job's own loopback and answers at once or never, so there is
 * no point in waiting long or in asking often; there are no search domains.
 */
export function resolvConfOf(nameServer: string | undefined): string {
  return nameServer === undefined
    ? NO_NAME_SERVERS
    : `nameserver ${nameServer}\noptions ndots:1 timeout:2 attempts:2\n`
}
