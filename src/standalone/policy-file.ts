import { readFile } from 'node:fs/promises'
import { isWeirError, WeirError } from '../errors.js'
import { canonicalName } from '../model/host.js'
import { parseHostPattern, type HostPatternOptions } from '../model/host-pattern.js'
import { parseIpAddress, readDocument } from '../model/index.js'
import { list, map, object, text, type TextShape } from '../model/shape.js'
import { readShape } from '../model/shape-reader.js'
import { ProblemList, ROOT_PLACE, type SpecProblem } from '../model/spec-problem.js'
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
}

const FILE_BYTES_MAX = 4 * 1024 * 1024

/** Reads a policy from a file. Rejects with `config.invalid`, naming every mistake and its place. */
export async function readPolicyFile(path: string): Promise<EgressPolicy> {
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
  return parsePolicy(bytes.toString('utf8'), path)
}

/** Reads a policy from YAML or JSON. Throws `config.invalid`, naming every mistake and its place. */
export function parsePolicy(source: string, name = 'policy'): EgressPolicy {
  const problems = new ProblemList()
  try {
    const { value, locate } = readDocument(source)
    const policy = readShape(POLICY, value ?? {}, ROOT_PLACE, { problems, unknownFields: 'error' })
    if (!problems.isEmpty) throw problems.toError(locate)
    const { hosts, ...rest } = policy as Omit<EgressPolicy, 'hosts'> & { hosts: Record<string, string> }
    const addresses = Object.entries(hosts).map(([host, list]) => [nameOf(host), split(list)])
    return { ...rest, hosts: Object.fromEntries(addresses) as Record<string, string[]> }
  } catch (error) {
    if (!isWeirError(error, 'spec.invalid')) throw error
    const lines = (error.details.problems as SpecProblem[]).map(problemLine)
    throw new WeirError('config.invalid', [`Cannot use the egress policy ${name}:`, ...lines].join('\n  '), {
      details: error.details,
      hint: 'docs/egress-exec.md lists the keys',
    })
  }
}

const PATTERNS_MAX = 100_000
const HOSTS_MAX = 10_000

const PRIVATE: HostPatternOptions = { allowPublicSuffix: true, allowPrivate: true }

const POLICY = object('The rules of an egress gateway', {
  allow: list('Hosts that may be reached', pattern('Host pattern', {}), PATTERNS_MAX),
  deny: list('Hosts that may never be reached', pattern('Host pattern', PRIVATE), PATTERNS_MAX),
  privateExceptions: list(
    'Exact hosts with their port that may have an address that is not public',
    text('Name or address with its port', {
      lengthMax: 2048,
      normalise: canonical(PRIVATE),
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
})

function pattern(description: string, options: HostPatternOptions): TextShape {
  return text(description, {
    lengthMax: 2048,
    normalise: canonical(options),
    check: ruleOf((written) => parseHostPattern(written, options)),
  })
}

/** Canonical when it can be read; otherwise as written, for the check to complain about. */
function canonical(options: HostPatternOptions): (written: string) => string {
  return (written) => {
    try {
      return parseHostPattern(written.trim(), options).text
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
