import { isWeirError } from '../errors.js'
import { ARGUMENT_CHARACTERS_MAX, ENVIRONMENT_ENTRIES_MAX, engineShape } from './engine-shapes.js'
import { parseHostPattern } from './host-pattern.js'
import { checkPresetName, presetNameOf } from './presets.js'
import { CONSTRAINT_OPERATORS, JOB_TYPES, NETWORK_TYPES, SIGNED_PARTS } from './job-spec.js'
import { readTime, SIGNATURE_TYPE, SIGNATURES_MAX } from './job-signature.js'
import { isPublicKey } from './key-pair.js'
import { checkLabelKey, checkLabelValue } from './labels.js'
import { quoted } from './printable.js'
import { publisherShape } from './publisher-shapes.js'
import { parseBitRate, parseBudgetBytes } from './network-limits.js'
import { compactQuantity, parseBytes, parseCpu, parseGpu } from './resources.js'
import { flag, integer, list, map, object, text } from './shape.js'
import { shapeJsonSchema } from './shape-json-schema.js'
import { inputSource } from './source-shapes.js'
import {
  argumentLength,
  environmentName,
  jobPath,
  normaliseJobPath,
  readableName,
  resultName,
  ruleOf,
} from './value-rules.js'
import type { Complaint } from './labels.js'
import type { TextShape } from './shape.js'
import type { JsonSchema } from './shape-json-schema.js'

/** Meta keys with this prefix belong to the server. */
export const RESERVED_META_PREFIX = 'bacalhau.org/'

/** Keys of a stored job that only the server sets; lower case. */
export const SERVER_FIELDS: ReadonlySet<string> = new Set([
  'id',
  'state',
  'revision',
  'version',
  'createtime',
  'modifytime',
])

export const DOMAINS_MAX = 10_000
export const COUNT_MAX = 10_000
const TIMEOUT_SECONDS_MAX = 10 * 365 * 24 * 3600

const trim = (value: string): string => value.trim()

function quantity(description: string, parse: (value: string) => unknown): TextShape {
  return text(description, { numbers: true, lengthMax: 64, normalise: compactQuantity, check: ruleOf(parse) })
}

function seconds(which: string, description: string): ReturnType<typeof integer> {
  return integer(description, {
    min: 0,
    max: TIMEOUT_SECONDS_MAX,
    belowMin: (value) => `invalid ${which} timeout value: ${value}`,
  })
}

const meta = map('Free notes, not used by weir', {
  lengthMax: 1000,
  checkKey: (key) =>
    key.trim() === '' || key.length > 256 ? { message: 'invalid meta key' } : readableName(key),
  values: text('Note', { lengthMax: 64 * 1024 }),
})

const hostPattern: TextShape = text(
  'Host pattern: host, .host (and below) or *.host (only below), optional :port; https://host for TLS only',
  {
    lengthMax: 2048,
    normalise: (pattern) => canonicalPattern(pattern.trim()),
    check: ruleOf(parseHostPattern),
  },
)

/** A host pattern, or `@name` for those of a preset. */
const domain: TextShape = {
  ...hostPattern,
  description: `${hostPattern.description}; @name for a preset of the server`,
  check: (text) => {
    const name = presetNameOf(text)
    return name === undefined ? hostPattern.check?.(text) : ruleOf(checkPresetName)(name)
  },
}

const outboundUrl: TextShape = {
  ...hostPattern,
  description: 'Scheme, host and optional port: https://host, http://host:8080, wss://.host',
  check: (url) => withoutScheme(url) ?? hostPattern.check?.(url),
}

function withoutScheme(url: string): Complaint | undefined {
  if (url.includes('://')) return undefined
  if (presetNameOf(url) !== undefined)
    return {
      message: `Cannot use outbound URL ${quoted(url)}: it is the name of a preset`,
      hint: `A preset stands among the domains: list ${quoted(url)} there`,
    }
  const host = url.split(/[/?#]/, 1)[0] || url // A path is not part of it.
  return {
    message: `Cannot use outbound URL ${quoted(url)}: it has no scheme`,
    hint: `Write ${quoted(`https://${host}`)}, or list ${quoted(host)} among the domains`,
  }
}

/** Canonical when it can be read; otherwise as written, for the check to complain about. */
function canonicalPattern(pattern: string): string {
  try {
    return parseHostPattern(pattern).text
  } catch (error) {
    if (!isWeirError(error)) throw error
    return pattern
  }
}

/** At most what one operator would write down by hand. */
const BUDGETS_MAX = 100

const bitRate = (description: string): TextShape => quantity(description, parseBitRate)
const budgetBytes = (description: string): TextShape => quantity(description, parseBudgetBytes)
const atLeastOne = (description: string): ReturnType<typeof integer> =>
  integer(description, { min: 0, max: 1_000_000 })

const networkLimits = object(
  'Less than the node gives: what the program asks to be held to',
  {
    BitsPerSecondUp: bitRate('Upload: 500kbit, 2mbit'),
    BitsPerSecondDown: bitRate('Download: 500kbit, 2mbit'),
    BytesUpMax: budgetBytes('Payload sent by one execution: 100mb'),
    BytesDownMax: budgetBytes('Payload received by one execution: 1gb'),
    RequestsPerSecond: atLeastOne('Requests and tunnels begun per second'),
    ConnectionsMax: atLeastOne('Connections at the same time'),
    HostConnectionsMax: atLeastOne('To one host and port at the same time, of all executions of the job'),
    HostNamesMax: atLeastOne('Different names that one execution may have looked up'),
    Budgets: list(
      'Payload for the hosts of one pattern',
      object(
        'A budget',
        {
          Domain: { required: 'missing domain', shape: hostPattern },
          BytesUpMax: budgetBytes('Sent by one execution'),
          BytesDownMax: budgetBytes('Received by one execution'),
        },
        { sparse: true },
      ),
      BUDGETS_MAX,
    ),
  },
  { sparse: true },
)

/** Text of one form only, as programs write it; people never do. */
function exact(
  description: string,
  isRight: (value: string) => boolean,
  complaint: string,
): { required: string; shape: TextShape } {
  return {
    required: `missing ${complaint}`,
    shape: text(description, {
      lengthMax: 128,
      check: (value) => (isRight(value) ? undefined : { message: `${quoted(value)} is no ${complaint}` }),
    }),
  }
}

const time = (description: string): ReturnType<typeof exact> =>
  exact(description, (value) => !Number.isNaN(readTime(value)), 'time in UTC like 2026-01-31T12:00:00Z')

const signature = object(
  'A signature of the job, as "weir key sign" makes it',
  {
    Type: exact(
      'Kind of signature',
      (value) => value === SIGNATURE_TYPE,
      `kind of signature: ${SIGNATURE_TYPE}`,
    ),
    Key: exact('Public Ed25519 key', isPublicKey, 'public key: U and 55 letters and digits'),
    NotBefore: time('From when on it is good'),
    Expires: time('Until when'),
    Namespace: {
      shape: text('Only in this namespace; in any when absent', { lengthMax: 256, check: readableName }),
      optional: true,
    },
    Parts: object(
      'What it is over: SHA-256 of each part of the job, base64url',
      Object.fromEntries(
        SIGNED_PARTS.map((part) => [
          part,
          exact(part, (value) => /^[\w-]{43}$/.test(value), 'SHA-256 in base64url'),
        ]),
      ),
      { closed: true },
    ),
    Signature: exact('Ed25519, base64url', (value) => /^[\w-]{86}$/.test(value), 'Ed25519 signature'),
  },
  { closed: true },
)

const constraint = object('A condition on the labels of nodes', {
  Key: text('Label key; with the prefix favour_ it only ranks nodes', { lengthMax: 400, normalise: trim }),
  Operator: {
    required: 'missing operator',
    shape: text('How label and values relate', {
      normalise: trim,
      choices: CONSTRAINT_OPERATORS,
      wrongChoice: (word) => `invalid operator: ${quoted(word)}`,
    }),
  },
  Values: list('Values to compare with', text('Value', { normalise: trim, numbers: true }), 1000),
})

const task = object('One program to run', {
  Name: {
    required: 'missing task name',
    shape: text('Name', { lengthMax: 256, normalise: trim, check: readableName }),
  },
  Engine: engineShape,
  Publisher: publisherShape,
  Env: map('Environment of the program', {
    lengthMax: ENVIRONMENT_ENTRIES_MAX,
    checkKey: environmentName,
    values: text('Value', { lengthMax: ARGUMENT_CHARACTERS_MAX, check: argumentLength }),
  }),
  Meta: meta,
  InputSources: list('Data that is fetched before the program runs', inputSource('One input'), 1000),
  ResultPaths: list(
    'Directories that become part of the result',
    object('One directory', {
      Name: {
        required: 'missing name',
        shape: text('Name in the result', { normalise: trim, check: resultName }),
      },
      Path: {
        required: 'missing path',
        shape: text('Absolute path inside the job', {
          lengthMax: 4096,
          normalise: normaliseJobPath,
          check: jobPath,
        }),
      },
    }),
    100,
  ),
  Resources: object('What the program needs; the default where absent', {
    CPU: quantity('Cores: 2, 0.5 or 500m', parseCpu),
    Memory: quantity('Bytes: 512mb, 1gb, 1gi', (value) => parseBytes(value, 'memory')),
    Disk: quantity('Bytes: 512mb, 1gb, 1gi', (value) => parseBytes(value, 'disk')),
    GPU: quantity('Whole devices', parseGpu),
  }),
  Network: object('What the program may reach; nothing when absent', {
    Type: text('None: nothing. HTTP: the listed hosts only. Full: the internet', {
      normalise: trim,
      choices: NETWORK_TYPES,
      otherWords: { default: 'None' },
      fallback: 'None',
      wrongChoice: (word) => `unknown network type '${word}'`,
    }),
    Domains: list('Hosts that an HTTP task may reach; empty never means all', domain, DOMAINS_MAX),
    OutboundURLs: {
      shape: list('The same as URLs; they are added to Domains', outboundUrl, DOMAINS_MAX),
      optional: true,
    },
    Learn: {
      shape: flag(
        'Open every public host, to learn which the program needs; only where the node lets this user',
      ),
      optional: true,
    },
    Limits: { shape: networkLimits, optional: true },
    Signatures: { shape: list('Who signed the job', signature, SIGNATURES_MAX), optional: true },
  }),
  Timeouts: object('Limits in seconds; 0 or absent means none', {
    ExecutionTimeout: seconds('execution', 'For one execution'),
    QueueTimeout: seconds('queue', 'How long the job may wait for a node'),
    TotalTimeout: seconds('total', 'For the whole job'),
  }),
})

/** The whole job specification, as users write it. */
export const jobShape = object('A job', {
  Name: text('Name of the job; its id when absent', { lengthMax: 256, check: blankOrUnreadable }),
  Namespace: text('Namespace', { lengthMax: 256, fallback: 'default', check: blankOrUnreadable }),
  Type: {
    required: 'missing job type',
    shape: text(
      'batch: Count executions to the end. ops: once on every matching node. service, daemon: kept running',
      {
        normalise: trim,
        choices: JOB_TYPES,
        wrongChoice: (word) => `invalid job type: "${word}"`,
      },
    ),
  },
  Priority: integer('Higher is placed first', { min: -1_000_000, max: 1_000_000 }),
  Count: integer('Executions wanted (batch, service); 1 when absent', {
    min: 0,
    max: COUNT_MAX,
    belowMin: (value) => `job count must be >= 0, found ${value}`,
  }),
  Constraints: list('Conditions on nodes, all of which must hold', constraint, 100),
  Meta: meta,
  Labels: map('Labels of the job, for queries', {
    lengthMax: 1000,
    checkKey: (key) => named(key, checkLabelKey(key)),
    values: text('Label value', { normalise: trim, check: (value) => named(value, checkLabelValue(value)) }),
  }),
  Tasks: list('Exactly one task', task, 100),
})

/** The job specification as a JSON Schema (2020-12), for the API's description. */
export function jobJsonSchema(): JsonSchema {
  return shapeJsonSchema(jobShape)
}

function blankOrUnreadable(value: string): Complaint | undefined {
  return value.trim() === '' ? { message: 'must not be blank' } : readableName(value)
}

function named(value: string, complaint: Complaint | undefined): Complaint | undefined {
  return complaint === undefined
    ? undefined
    : { ...complaint, message: `${quoted(value)} ${complaint.message}` }
}
