import type { IncomingHttpHeaders } from 'node:http'

/** How a client may prove who it is; `params` depend on the type. */
export interface AuthRequirement {
  type: 'challenge' | 'ask'
  params: Record<string, unknown>
}

/** Outcome of an attempt: a token that is never empty, or the reason why there is none. */
export type AuthOutcome = { success: true; token: string } | { success: false; reason: string }

/**
 * One way to obtain a token. Clients with several to choose from ask a human, so a server normally has exactly one.
 */
export interface AuthMethod {
  /** Lower case; part of the path. */
  readonly name: string
  readonly requirement: AuthRequirement
  /** `data` is the decoded answer, as sent. A wrong answer is an outcome; only an unreadable one throws (`api.bad_request`). */
  authenticate(data: Uint8Array): Promise<AuthOutcome>
}

/** What an authorizer may look at. */
export interface AuthorizationRequest {
  method: string
  /** Without query. */
  path: string
  headers: IncomingHttpHeaders
  remoteAddress: string
}

/** Decides before a request reaches its route. Called for every request, websocket upgrades included. */
export interface Authorizer {
  /** Rejects with `api.unauthorized` or `api.forbidden`. */
  authorize(request: AuthorizationRequest): Promise<void>
}

/** Serves everybody: right for a server that only its own machine can reach. */
export const openAuthorizer: Authorizer = { authorize: () => Promise.resolve() }
