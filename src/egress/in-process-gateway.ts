import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { type ControlRequest, createControl, type GatewayProcessOptions } from './control.js'
import type { Gateway } from './gateway.js'

/** What the supervisor needs of the process that the gateway runs in: `message`, `error` and `exit` events, and this. */
export interface GatewayHost extends EventEmitter {
  readonly pid?: number | undefined
  readonly connected: boolean
  readonly exitCode: number | null
  readonly signalCode: NodeJS.Signals | null
  /** With a connection it gives that away. */
  send(
    request: ControlRequest,
    handle: Socket | undefined,
    options: object,
    told: (error: Error | null) => void,
  ): unknown
  kill(signal?: NodeJS.Signals): boolean
}

/** The gateway in this very process, behind the same messages: cheaper, and it ends with whatever this process does wrong. */
export class InProcessHost extends EventEmitter implements GatewayHost {
  readonly signalCode = null
  readonly #control: ReturnType<typeof createControl>
  #isOver = false

  constructor(create: (options: GatewayProcessOptions) => Gateway) {
    super()
    this.#control = createControl(create)
  }

  get connected(): boolean {
    return !this.#isOver
  }

  get exitCode(): number | null {
    return this.#isOver ? 0 : null
  }

  send(
    request: ControlRequest,
    handle: Socket | undefined,
    _options: object,
    told: (error: Error | null) => void,
  ): void {
    told(null)
    void this.#control(request, handle).then((reply) => {
      this.emit('message', reply)
      if (request.call === 'shutdown') this.kill()
    })
  }

  kill(): boolean {
    if (!this.#isOver) setImmediate(() => this.emit('exit', 0, null))
    this.#isOver = true
    return true
  }
}
