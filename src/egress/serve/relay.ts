import type { Socket } from 'node:net'
import type { EgressEnd } from '../../model/index.js'
import type { Attempt } from './attempt.js'
import type { ClientConnection } from './connection.js'
import { type SocketReader, writeMetered } from './socket-stream.js'

/** Looks at bytes on their way; returns those that may go on. Throws to end the tunnel. */
export interface RelayWatch {
  up?: (bytes: Buffer) => Buffer
  down?: (bytes: Buffer) => Buffer
}

/**
 * Streams both ways until both sides have ended; half-closed connections stay half-open. Resolves with who ended
 * first. Rejects when one side breaks, a watch objects, or the connection is cut.
 */
export async function relay(
  client: ClientConnection,
  attempt: Attempt,
  origin: SocketReader,
  originSocket: Socket,
  watch: RelayWatch = {},
): Promise<EgressEnd> {
  const { signal } = client
  let first: EgressEnd | undefined
  const up = async () => {
    for (
      let bytes = await client.reader.read(signal);
      bytes !== undefined;
      bytes = await client.reader.read(signal)
    ) {
      client.active()
      const allowed = watch.up?.(bytes) ?? bytes
      await writeMetered(originSocket, allowed, attempt.up, signal)
    }
    first ??= 'client'
    originSocket.end()
  }
  const down = async () => {
    for (let bytes = await origin.read(signal); bytes !== undefined; bytes = await origin.read(signal)) {
      client.active()
      attempt.originAnswered()
      const allowed = watch.down?.(bytes) ?? bytes
      await writeMetered(client.socket, allowed, attempt.down, signal)
    }
    first ??= 'origin'
    client.socket.end()
  }
  const broken = (error: unknown): never => {
    // The other direction waits for bytes that nobody will send now.
    client.cut(error as Error)
    throw error
  }
  await Promise.all([up().catch(broken), down().catch(broken)])
  return first ?? 'origin'
}
