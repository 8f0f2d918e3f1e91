import { WeirError, isWeirError } from '../../errors.js'
import { engineMessage, engineStatus } from './engine-connection.js'
import type { ImageReference } from './image-reference.js'

/**
 * Says in our words why an image could not be pulled. The engine answers in prose, so its words are recognised by
 * their tell-tale parts; what is not recognised is quoted.
 */
export function pullRefusal(
  error: unknown,
  { text, registry }: ImageReference,
  timeoutMs: number,
): WeirError {
  if (isWeirError(error)) return error
  const said = engineMessage(error)
  const { reason, hint, retryable } = isTimeout(error)
    ? {
        reason: `it took longer than ${Math.round(timeoutMs / 1000)} s`,
        hint: 'Load the image on the node ahead of time, or ask the operator for a longer limit',
        retryable: true,
      }
    : judge(said, engineStatus(error), registry)
  return new WeirError('image.unavailable', `Cannot pull the image ${JSON.stringify(text)}: ${reason}`, {
    hint,
    retryable,
    details: { registry, engine: said },
    cause: error,
  })
}

interface Verdict {
  reason: string
  hint: string
  retryable: boolean
}

/** First match wins. Refusals of the registry come before failures on the way to it. */
function judge(said: string, status: number | undefined, registry: string): Verdict {
  if (/no matching manifest|does not match the specified platform/i.test(said)) {
    return {
      reason: 'the registry has no version of it for the platform of this node',
      hint: 'Use an image for this platform, or a node with another architecture',
      retryable: false,
    }
  }
  if (/toomanyrequests|rate limit/i.test(said)) {
    return {
      reason: `the registry "${registry}" limits the number of pulls`,
      hint: 'Try again later, or let the operator configure a login for this registry',
      retryable: true,
    }
  }
  if (/unauthorized|authentication required|no basic auth|incorrect username|forbidden|denied:/i.test(said)) {
    return {
      reason: `the registry "${registry}" refuses the login`,
      hint: 'The operator of the node configures a user name and password per registry; check that they may read this image',
      retryable: false,
    }
  }
  if (/pull access denied|repository does not exist|may require 'docker login'/i.test(said)) {
    return {
      reason: `the registry "${registry}" does not know it, or wants a login`,
      hint: 'Check the spelling; for a private image the operator configures a login for this registry',
      retryable: false,
    }
  }
  if (/manifest unknown|manifest for .* not found|name unknown|not found/i.test(said) || status === 404) {
    return {
      reason: `the registry "${registry}" has no such image or tag`,
      hint: 'Check the spelling of name and tag; images built elsewhere must be pushed to a registry or loaded on the node',
      retryable: false,
    }
  }
  if (UNREACHABLE.test(said)) {
    return {
      reason: `the node cannot reach the registry "${registry}" (${said})`,
      hint: 'Check the network of the node, or load the image on the node (docker load)',
      retryable: true,
    }
  }
  return { reason: said, hint: 'Try docker pull on the node to see what is wrong', retryable: true }
}

const UNREACHABLE =
  /no such host|dial tcp|lookup |connection refused|connection reset|i\/o timeout|network is unreachable|no route to host|timeout|deadline exceeded|EOF|server misbehaving|http: server gave HTTP response/i

function isTimeout(error: unknown): boolean {
  return (error as { name?: unknown } | null)?.name === 'TimeoutError'
}
