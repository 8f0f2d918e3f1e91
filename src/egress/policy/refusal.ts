import type { ErrorCode } from '../../errors.js'
import { narrowestDomain, type RuleOwner } from '../../model/index.js'

/** A refusal as the job sees it. */
export interface Refusal {
  readonly status: number
  readonly code: ErrorCode
  /** Canonical host and port; empty when the host could not be read, so that nothing hostile is ever reflected. */
  readonly host: string
  readonly port: number
  readonly owner: RuleOwner | ''
  /** `http` is plain HTTP, `connect` a tunnel, `https` TLS of the gateway. Absent: it is not known. */
  readonly kind?: string
  /** Replaces the catalogue's sentence; never holds private details. */
  readonly text?: string
}

/** The status of a refusal: 403 is policy and nothing else. */
export function statusOf(code: ErrorCode): number {
  switch (code) {
    case 'egress.connections':
    case 'egress.rate':
    case 'egress.names':
    case 'egress.quota_up':
    case 'egress.quota_down':
      return 429
    case 'egress.credential':
      return 407
    case 'egress.upstream_failed':
    case 'egress.dns_failed':
      return 502
    case 'egress.overload':
    case 'egress.audit_failed':
    case 'egress.unavailable':
      return 503
    case 'egress.method':
      return 405
    case 'request.timeout':
      return 408
    case 'request.malformed':
    case 'request.host':
    case 'request.host_mismatch':
    case 'request.framing':
      return 400
    case 'request.too_large':
      return 431
    default:
      return 403
  }
}

/** What a refusal is about, as far as advice depends on it. */
export type Advised = Pick<Refusal, 'code' | 'host' | 'port' | 'owner' | 'kind'>

/** The flag of the user that would change the refusal; undefined when none would. */
export function adviceFor({ code, host, port, owner, kind }: Advised): string | undefined {
  if (host === '' || port === 25) return undefined
  const domain = `--domain ${narrowestDomain(host, port)}`
  switch (code) {
    case 'egress.mode_none':
      return `--network http ${domain}`
    case 'egress.not_in_job_list':
    case 'egress.ip_literal':
      return domain
    case 'egress.port':
      // Plain HTTP to 443 and TLS to 80 are never open, whatever is listed.
      if (port === 80 && kind !== 'http') return undefined
      if (port === 443 && kind !== 'connect' && kind !== 'https') return undefined
      return owner === 'job' ? domain : undefined
    default:
      return undefined
  }
}

/** The whole response. Plain text, bounded, and only canonical names in it. */
export function refusalResponse(refusal: Refusal): Buffer {
  const body = `${refusalText(refusal)}\n`
  const lines = [
    `HTTP/1.1 ${refusal.status} ${REASONS[refusal.status] ?? 'Refused'}`,
    `Weir-Egress-Code: ${refusal.code}`,
    'Content-Type: text/plain; charset=utf-8',
    'X-Content-Type-Options: nosniff',
    'Cache-Control: no-store',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(refusal.status === 407 ? ['Proxy-Authenticate: Basic realm="weir", charset="UTF-8"'] : []),
    'Connection: close',
  ]
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`)
}

function refusalText(refusal: Refusal): string {
  const { code, host, port, owner, text } = refusal
  const where = host === '' ? '' : ` (${host.includes(':') ? `[${host}]` : host}:${port})`
  const advice = adviceFor(refusal)
  const lines = [`weir refused this request${where}: ${text ?? SENTENCES[code] ?? 'it cannot be served'}.`]
  if (owner !== '' && owner !== 'gateway') lines.push(`Whose rule: ${OWNERS[owner] ?? owner}.`)
  if (advice !== undefined) lines.push(`To allow it, run the job or program with: ${advice}`)
  else if (code === 'egress.not_in_node_list' || (code === 'egress.port' && owner === 'node'))
    lines.push('Only the operator of the node can allow it; another node may allow it already.')
  else if (code === 'egress.signature_expired')
    lines.push('Run the job again with a new signature: weir key sign JOBFILE --key KEYFILE --expires 30d')
  const limit = LIMIT_ADVICE[code]
  if (limit !== undefined) lines.push(limit)
  lines.push(`Code: ${code}`)
  return lines.join('\n')
}

/** What to do about a limit. The operator's maxima stay secret: the effective values are in the job's description. */
const LIMIT_ADVICE: Readonly<Partial<Record<ErrorCode, string>>> = {
  'egress.connections': 'Close connections, or use them again (keep-alive), and try again.',
  'egress.rate': 'Send fewer requests per second, and try again.',
  'egress.names': 'The limit holds for the whole execution; `weir job describe` shows it.',
  'egress.quota_up':
    'The budget holds for the whole execution; `weir job describe` shows it, --egress-budget changes it.',
  'egress.quota_down':
    'The budget holds for the whole execution; `weir job describe` shows it, --egress-budget changes it.',
}

const OWNERS: Readonly<Record<string, string>> = {
  job: 'the list of the job or program',
  node: "the node's list",
  network: "the network's list",
  gateway: 'the gateway',
}

const SENTENCES: Readonly<Partial<Record<ErrorCode, string>>> = {
  'egress.mode_none': 'the job asked for no network',
  'egress.not_in_job_list': "the host is not in the program's list of domains",
  'egress.not_in_node_list': "the host is not in the node's list",
  'egress.signature_expired': 'a signature of the job opened this host until it expired',
  'egress.not_in_network_list': "the host is not in the network's list",
  'egress.denied_by_operator': 'the operator of the node denies this host',
  'egress.port': 'this port is not open for this host and kind of request',
  'egress.ip_literal': 'the address is not listed',
  'egress.private_address': 'private address: the host is not on the public internet',
  'egress.self': 'the host belongs to the network itself, which jobs can never reach',
  'egress.credential': 'this gateway serves only clients with a valid credential',
  'egress.method': 'the method is not allowed',
  'egress.connections': 'too many connections are open',
  'egress.rate': 'too many requests per second',
  'egress.names': 'too many different host names',
  'egress.quota_up': 'the upload budget is used up',
  'egress.quota_down': 'the download budget is used up',
  'egress.dns_failed': 'the host name could not be resolved',
  'egress.upstream_failed': 'the host could not be reached or did not answer properly',
  'egress.timeout': 'the host did not answer in time',
  'egress.overload': 'the gateway cannot take more work now',
  'egress.audit_failed': 'the audit record cannot be written, so nothing may leave',
  'egress.unavailable': 'the gateway has no open lease for this job',
  'egress.revoked': 'the permission was withdrawn',
  'request.malformed': 'the request is malformed',
  'request.host': 'the host in the request is malformed',
  'request.host_mismatch': 'the Host header contradicts the request target',
  'request.framing': 'the framing of the request is ambiguous',
  'request.too_large': 'the request head is too large',
  'request.timeout': 'the request did not arrive in time',
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  405: 'Method Not Allowed',
  407: 'Proxy Authentication Required',
  408: 'Request Timeout',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
}
