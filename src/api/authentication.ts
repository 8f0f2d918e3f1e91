import { isWeirError } from '../errors.js'
import type { Access } from '../ports/index.js'
import { bodyText, parseJsonBody } from './guards/json-body.js'

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
  /**
   * `data` is the decoded answer, as sent, and `address` where it came from. A wrong answer is an outcome; only an unreadable
   * one throws (`api.bad_request`), and one too many (`api.overload`).
   */
  authenticate(data: Uint8Array, address: string): Promise<AuthOutcome>
}

/**
 * The method of a server that knows its users: clients of version 1.5 ask a human for an API token, once, hide the typing,
 * and keep it. The stock alternative, a signature of the client's own key, would prove nothing: any key is accepted, and
 * the phrase it signs is the same for ever, so another server can pass a signature on.
 */
export function tokenMethod(
  access: Access,
  onRefused: (refusal: { address: string; reason: string }) => void = () => {},
): AuthMethod {
  return {
    name: 'token',
    requirement: {
      type: 'ask',
      params: {
        type: 'object',
        properties: { token: { type: 'string', writeOnly: true, description: 'API token' } },
        required: ['token'],
      },
    },
    authenticate: async (data, address) => {
      const token = bodyText(parseJsonBody(Buffer.from(data).toString('utf8')), 'token', 4_096).trim()
      try {
        await access.authenticate({ kind: 'bearer', token }, address)
        return { success: true, token }
      } catch (error) {
        if (isWeirError(error)) onRefused({ address, reason: error.message })
        if (isWeirError(error, 'api.unauthorized')) return { success: false, reason: 'credentials rejected' }
        throw error
      }
    },
  }
}
