import { ErrorAnswer, type Schema } from '../schemas.js'

/** The `response` part of a route's schema: what success looks like, and the one shape of errors. */
export function answers(
  success: Schema,
  mediaType = 'application/json',
): { response: Record<string, unknown> } {
  return {
    response: {
      200: { description: 'Success', content: { [mediaType]: { schema: success } } },
      default: { description: 'Any error', content: { 'application/json': { schema: ErrorAnswer } } },
    },
  }
}
