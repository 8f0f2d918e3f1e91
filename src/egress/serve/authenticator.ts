import type { ExecutionId } from '../../model/index.js'

/** A name and a hashed secret with which a client chooses the lease that serves it. */
export interface ProxyCredential {
  name: string
  /** As `weir auth hash-password` prints it. */
  secret: string
  executionId: ExecutionId
}

/** Tells clients of one listener apart by `Proxy-Authorization` (RFC 9110 §11.7.2). */
export interface Authenticator {
  /**
   * `headers`: the values of all such headers; `source`: the address of the client. Resolves with the execution whose lease
   * serves the request, with 407 when the credential is missing or wrong, with 429 when the source has to wait. Never
   * rejects.
   */
  check(headers: readonly string[], source: string): Promise<ExecutionId | 407 | 429>
}

/** Whose lease serves the connections of listeners that share it with others. */
export interface DoorService {
  /** Of everybody who connects, or with credentials of those whom nobody knows: what they ask for is recorded there. */
  executionId: ExecutionId
  /** Absent: nobody is asked for credentials. */
  credentials?: ProxyCredential[]
}
