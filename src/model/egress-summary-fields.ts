import type { EgressDestination, EgressSummary } from './state.js'

/** A summary in the spelling of the API, which commands without a server print as well. */
export function egressSummaryFields(summary: EgressSummary): Record<string, unknown> {
  return {
    Records: summary.records,
    Allowed: summary.allowed,
    Refused: summary.refused,
    BytesUp: summary.bytesUp,
    BytesDown: summary.bytesDown,
    Destinations: summary.destinations.map(destinationFields),
    DestinationsTruncated: summary.destinationsTruncated,
    ChainHead: summary.chainHead,
  }
}

function destinationFields(destination: EgressDestination): Record<string, unknown> {
  return {
    Host: destination.host,
    Port: destination.port,
    Allowed: destination.allowed,
    Refused: destination.refused,
    BytesUp: destination.bytesUp,
    BytesDown: destination.bytesDown,
    Code: destination.code,
    Advice: destination.advice,
  }
}
