import type { FuzzTarget } from '../target.js'
import { addresses } from './addresses.js'
import { allowlists } from './allowlists.js'
import { bodies } from './bodies.js'
import { dials } from './dials.js'
import { dnsAnswers } from './dns-answers.js'
import { hellos } from './hellos.js'
import { hosts, names } from './hosts.js'
import { patterns } from './patterns.js'
import { algebra, explanations } from './policies.js'
import { requestHeads } from './request-heads.js'

/** Everything that reads what strangers write, and what is decided from it. */
export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  hosts,
  names,
  addresses,
  patterns,
  hellos,
  requestHeads,
  bodies,
  dnsAnswers,
  allowlists,
  dials,
  algebra,
  explanations,
]
