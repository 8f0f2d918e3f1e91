import type { EgressVerdict } from '../../ports/index.js'

/** A gateway's verdict, with everything that stands against it. */
export function egressVerdictToWire(verdict: EgressVerdict) {
  const { objections, scheme, port, allowed, owner, rule, code } = verdict
  return {
    Scheme: scheme,
    Port: port,
    Allowed: allowed,
    Code: code,
    Owner: owner,
    Rule: rule,
    Objections: objections.map((one) => ({
      Code: one.code,
      Owner: one.owner,
      Rule: one.rule,
      Change: one.change,
    })),
  }
}
