import { readFile } from 'node:fs/promises'
import { readStoredPassword } from '../access/index.js'
import { isWeirError, WeirError } from '../errors.js'
import { canonicalName } from '../model/host.js'
import { parseHostPattern, type HostPatternOptions } from '../model/host-pattern.js'
import { PatternMemo } from '../model/pattern-memo.js'
import { parseIpAddress, readDocument } from '../model/index.js'
import { type EgressLimits, parseBitRate, parseBudgetBytes } from '../model/network-limits.js'
import { compactQuantity } from '../model/resources.js'
import { integer, list, map, type ObjectShape, object, text, type TextShape } from '../model/shape.js'
import { readShape } from '../model/shape-reader.js'
import { fieldPlace, itemPlace, ProblemList, ROOT_PLACE, type SpecProblem } from '../model/spec-problem.js'
import { ruleOf } from '../model/value-rules.js'

/** The rules of a gateway that stands alone, as a file holds them: what is absent or empty allows nothing. */
export interface EgressPolicy {
  /** Hosts for the program of `exec`, and for clients of listeners that ask for no credentials. */
  allow: string[]
  /** Wins over every list. */
  deny: string[]
  /** Exact hosts with their port that may be reached although their address is not public; never loopback. */
  privateExceptions: string[]
  /** Names → addresses that are not looked up, but judged like any answer. */
  hosts: Record<string, string[]>
  /** DNS servers; empty: those of the machine. */
  dnsServers: string[]
  /** For everybody whom `allow` is for. */
  limits: PolicyLimits
  /** Clients with lists of their own. */
  identities: PolicyIdentity[]
  /** Where the gateway listens, besides the command line. */
  listeners: PolicyListener[]
}

/** Bounds as people write them; empty = no bound of its own. */
export interface PolicyLimits {
  /** Bits per second in each direction: `10mbit`. */
  rate: string
  /** Bytes in each direction, in all: `50mb`. */
  budget: string
  /** At the same time; 0 = the gateway's own bound. */
  connections: number
}

export interface PolicyIdentity {
  /** Name of the user, of the identity in records, and of its file of records. */
  name: string
  /** What `weir auth hash-password` printed; empty: no credential leads to it, only a listener. */
  secret: string
  allow: string[]
  limits: PolicyLimits
}

export interface PolicyListener {
  /** `127.0.0.1:3128`, `[::1]:3128`. */
  address: string
  /** Whoever connects here is this identity, without a credential. Empty: see `EgressPolicy.identities`. */
  identity: string
}

/** The bounds as the gateway takes them. */
export function limitsOf({ rate, budget, connections }: PolicyLimits): Partial<EgressLimits> {
  const bits = rate === '' ? undefined : parseBitRate(rate)
  const bytes = budget === '' ? undefined : parseBudgetBytes(budget)
  return {
    ...(bits !== undefined && { bitsPerSecondUp: bits, bitsPerSecondDown: bits }),
    ...(bytes !== undefined && { bytesUpMax: bytes, bytesDownMax: bytes }),
    ...(connections > 0 && { connectionsMax: connections }),
  }
}

/** Host and port of a listener. Throws `cli.usage`. */
export function readListenAddress(written: string): { host: string; port: number } {
  const [, six, four, port = ''] = /^(?:\[([0-9A-Fa-f:]+)\]|([^:]+)):(\d{1,5})$/.exec(written) ?? []
  const host = four === 'localhost' ? '127.0.0.1' : (six ?? four ?? '')
  if (parseIpAddress(host) !== undefined && Number(port) <= 65_535) return { host, port: Number(port) }
  throw new WeirError('cli.usage', `Cannot listen on "${written}"`, {
    hint: 'Write an address of this machine and a port: 127.0.0.1:3128, [::1]:3128 or 0.0.0.0:3128',
  })
}

const FILE_BYTES_MAX = 4 * 1024 * 1024

/**
 * Reads a policy from a file. Rejects with `config.invalid`, naming every mistake and its place. With the `memo` of the last
 * reading only patterns that changed are parsed.
 */
export async function readPolicyFile(path: string, memo?: PatternMemo): Promise<EgressPolicy> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new WeirError('config.invalid', `Cannot read the egress policy ${path}: ${error.message}`, {
      cause: error,
    })
  })
  if (bytes.length > FILE_BYTES_MAX)
    throw new WeirError(
      'config.invalid',
      `Cannot use the egress policy ${path}: it has ${bytes.length} bytes, more than ${FILE_BYTES_MAX}`,
    )
  const source = bytes.toString('utf8')
  if (source.trim() === '')
    throw new WeirError('config.invalid', `Cannot use the egress policy ${path}: it holds nothing`, {
      hint: 'It may be half-written; to allow nothing, write `allow: []`',
    })
  return parsePolicy(source, path, memo)
}

/** Reads a policy from YAML or JSON. Throws `config.invalid`, naming every mistake and its place. */
export function parsePolicy(source: string, name = 'policy', memo = new PatternMemo()): EgressPolicy {
  const problems = new ProblemList()
  try {
    const { value, locate } = readDocument(source)
    const policy = readShape(policyShape(memo), value ?? {}, ROOT_PLACE, { problems, unknownFields: 'error' })
    checkIdentities(policy as EgressPolicy, problems)
    if (!problems.isEmpty) throw problems.toError(locate)
    const { hosts, ...rest } = policy as Omit<EgressPolicy, 'hosts'> & { hosts: Record<string, string> }
    const addresses = Object.entries(hosts).map(([host, list]) => [nameOf(host), split(list)])
    return { ...rest, hosts: Object.fromEntries(addresses) as Record<string, string[]> }
  } catch (error) {
    if (!isWeirError(error, 'spec.invalid')) throw error
    const lines = (error.details.problems as SpecProblem[]).map(problemLine)
    throw new WeirError('config.invalid', [`Cannot use the egress policy ${name}:`, ...lines].join('\n  '), {
      details: error.details,
      hint: 'the keys are in docs/egress-gateway.md',
    })
  } finally {
    memo.forgetUnused()
  }
}

const PATTERNS_MAX = 100_000
const HOSTS_MAX = 10_000
const IDENTITIES_MAX = 1_000
const LISTENERS_MAX = 64

/** In records: the program of `exec` and clients of listeners that ask for no credentials. */
export const EVERYBODY = 'everybody'
/** In records: clients without a valid credential. */
export const NOBODY = 'nobody'

const PRIVATE: HostPatternOptions = { allowPublicSuffix: true, allowPrivate: true }

const quantity = (description: string, parse: (written: string) => unknown): TextShape =>
  text(description, { numbers: true, lengthMax: 64, normalise: compactQuantity, check: ruleOf(parse) })

const limits = object('Bounds', {
  rate: quantity('Bits per second in each direction', parseBitRate),
  budget: quantity('Bytes in each direction', parseBudgetBytes),
  connections: integer('Connections at the same time', { min: 0, max: 100_000 }),
})

const identityName = (description: string): TextShape =>
  text(description, {
    lengthMax: 64,
    check: (name) =>
      /^[a-z0-9][a-z0-9_-]{0,62}$/.test(name) && name !== NOBODY && name !== EVERYBODY
        ? undefined
        : { message: `"${name}" cannot be a name`, hint: 'use lower-case letters, digits, - and _' },
  })

const identityShape = (memo: PatternMemo): ObjectShape =>
  object('A client', {
    name: { required: 'the name is missing', shape: identityName('Its name') },
    secret: text('Hash of its secret', {
      lengthMax: 512,
      check: (secret) => {
        const stored = readStoredPassword(secret)
        if (typeof stored === 'string') return { message: stored }
        return stored.kind === 'scrypt'
          ? undefined
          : { message: 'a secret is written as its hash', hint: 'make it with weir auth hash-password' }
      },
    }),
    allow: list('Hosts it may reach', pattern(memo, {}), PATTERNS_MAX),
    limits,
  })

const listener = object('A listener', {
  address: {
    required: 'the address is missing',
    shape: text('Address and port', { lengthMax: 64, check: ruleOf(readListenAddress) }),
  },
  identity: identityName('Who everybody is that connects here'),
})

const policyShape = (memo: PatternMemo): ObjectShape =>
  object('The rules of an egress gateway', {
    allow: list('Hosts that may be reached', pattern(memo, {}), PATTERNS_MAX),
    deny: list('Hosts that may never be reached', pattern(memo, PRIVATE), PATTERNS_MAX),
    privateExceptions: list(
      'Exact hosts with their port that may have an address that is not public',
      text('Name or address with its port', {
        lengthMax: 2048,
        normalise: canonical(memo, PRIVATE),
        check: ruleOf(readException),
      }),
      HOSTS_MAX,
    ),
    hosts: map('Names and their addresses', {
      lengthMax: HOSTS_MAX,
      checkKey: (name) => (nameOf(name) === undefined ? { message: 'is not a host name' } : undefined),
      values: text('One address, or several separated by commas', {
        lengthMax: 4096,
        check: ruleOf(readAddresses),
      }),
    }),
    dnsServers: list(
      'DNS servers',
      text('Address, or address:port', { lengthMax: 64, check: ruleOf(readServer) }),
      16,
    ),
    limits,
    identities: list('Clients with lists of their own', identityShape(memo), IDENTITIES_MAX),
    listeners: list('Where the gateway listens', listener, LISTENERS_MAX),
  })

/** Names are unique, somebody can be each of them, and listeners name identities that are there. */
function checkIdentities({ identities, listeners }: EgressPolicy, problems: ProblemList): void {
  const names = identities.map(({ name }) => name)
  const named = new Set(listeners.map(({ identity }) => identity))
  identities.forEach(({ name, secret }, index) => {
    const at = itemPlace(fieldPlace(ROOT_PLACE, 'identities'), index)
    if (name !== '' && secret === '' && !named.has(name))
      problems.add(at, {
        message: `nobody can be "${name}": it has no secret, and no listener names it`,
        hint: 'give it what weir auth hash-password prints',
      })
    if (name !== '' && names.indexOf(name) < index)
      problems.add(at, { message: `the name "${name}" is taken already` })
  })
  listeners.forEach(({ identity: name }, index) => {
    const at = itemPlace(fieldPlace(ROOT_PLACE, 'listeners'), index)
    if (name !== '' && !names.includes(name)) problems.add(at, { message: `there is no identity "${name}"` })
  })
}

function pattern(memo: PatternMemo, options: HostPatternOptions): TextShape {
  return text('Host pattern', {
    lengthMax: 2048,
    normalise: canonical(memo, options),
    check: ruleOf((written) => memo.read(written, options)),
  })
}

/** Canonical when it can be read; otherwise as written, for the check to complain about. */
function canonical(memo: PatternMemo, options: HostPatternOptions): (written: string) => string {
  return (written) => {
    try {
      return memo.read(written.trim(), options).text
    } catch (error) {
      if (!isWeirError(error)) throw error
      return written
    }
  }
}

/** Each exception opens one exact host on one port, so that nobody opens a whole network by mistake. */
function readException(written: string): void {
  const { reach, port, host } = parseHostPattern(written, PRIVATE)
  if (reach !== 'exact' || port === undefined)
    throw new WeirError('pattern.invalid', `"${written}" is not one exact host with its port`, {
      hint: `Write for example "${host}:8080"`,
    })
}

function readAddresses(written: string): void {
  for (const address of split(written))
    if (parseIpAddress(address) === undefined)
      throw new WeirError('host.invalid', `"${address}" is not an IP address`)
}

function readServer(written: string): void {
  const { host, isAddress } = parseHostPattern(written, PRIVATE)
  if (!isAddress) throw new WeirError('host.invalid', `"${host}" is not an IP address`)
}

function nameOf(written: string): string | undefined {
  const reading = canonicalName(written)
  return reading.ok ? reading.name : undefined
}

function split(written: string): string[] {
  return written.split(',').map((address) => address.trim())
}

function problemLine({ path, message, hint, line, column }: SpecProblem): string {
  const position = line === undefined ? '' : `line ${line}, column ${column ?? 1}`
  const place = [position, path].filter((part) => part !== '').join(', ')
  return `${place === '' ? '' : `${place}: `}${message}${hint === undefined ? '' : ` (${hint})`}`
}
