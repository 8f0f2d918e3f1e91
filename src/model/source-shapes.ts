import { flag, integer, object, params, text, variant } from './shape.js'
import {
  blobId,
  contentId,
  dataUrl,
  endpointUrl,
  httpUrl,
  jobPath,
  nodePath,
  normaliseJobPath,
  readableName,
  regularExpression,
  s3Bucket,
  s3Key,
  s3Region,
  sha256Hex,
} from './value-rules.js'
import type { Field, ObjectShape, Shape } from './shape.js'

/** The longest inline input: what fits in a request to the API. */
export const INLINE_CHARACTERS_MAX = 10 * 1024 * 1024

const trim = (value: string): string => value.trim()
const trimLower = (value: string): string => value.trim().toLowerCase()

const s3Object: Record<string, Field | Shape> = {
  Bucket: { required: 'missing Bucket', shape: text('Bucket', { normalise: trim, check: s3Bucket }) },
  Key: text('Key of one object, or a prefix that ends in "*" or "/"', { normalise: trim, check: s3Key }),
  Filter: text('Regular expression on the keys below the prefix', { check: regularExpression }),
  Region: text('Region of the bucket', { normalise: trim, check: s3Region }),
  Endpoint: text('Endpoint URL of the service', { normalise: trim, check: endpointUrl }),
  VersionID: text('Version of the object', { check: readableName }),
  ChecksumSHA256: text('SHA-256 of the object, as the service reports it', { check: readableName }),
}

/** Where data comes from. Unknown types pass: placement refuses them, naming the nodes' types. */
export const sourceShape = variant('Where the data comes from', {
  missing: 'invalid artifact source: nil spec config',
  missingType: 'invalid artifact source: missing spec type',
  types: {
    urlDownload: params('A file fetched by HTTP', {
      URL: {
        required: 'invalid artifact source: missing URL',
        shape: text('http or https URL with a path', { lengthMax: 8192, normalise: trim, check: httpUrl }),
      },
      SHA256: text('Expected SHA-256 of the file, hexadecimal', { normalise: trimLower, check: sha256Hex }),
      Checksum: text('Same as SHA256', { normalise: trimLower, check: sha256Hex }),
      MaxBytes: integer('Refuse a file larger than this', { min: 0, max: Number.MAX_SAFE_INTEGER }),
    }),
    localDirectory: params('A file or directory of the node', {
      SourcePath: {
        required: 'invalid artifact source: missing SourcePath',
        shape: text('Absolute path on the node', { lengthMax: 4096, check: nodePath }),
      },
      ReadWrite: flag('True: the job may write; the operator must allow it'),
    }),
    inline: params('Data that is part of the specification', {
      URL: {
        required: 'invalid artifact source: missing URL',
        shape: text('data: URL; application/gzip means a gzipped tar to unpack', {
          lengthMax: INLINE_CHARACTERS_MAX,
          normalise: trim,
          check: dataUrl,
        }),
      },
    }),
    blob: params('Content that was uploaded to the network', {
      CID: {
        required: 'invalid artifact source: missing CID',
        shape: text('Its CID: version 1, raw, sha2-256, base32', { normalise: trim, check: blobId }),
      },
    }),
    ipfs: params('Data on IPFS', {
      CID: {
        required: 'invalid artifact source: missing CID',
        shape: text('Content identifier', { normalise: trim, check: contentId }),
      },
    }),
    s3: params('Objects of an S3 bucket', s3Object),
    s3PreSigned: params('One object behind a signed URL', {
      SourceSpec: object('The object', s3Object, { sparse: true, closed: true }),
      PreSignedURL: {
        required: 'invalid artifact source: missing PreSignedURL',
        shape: text('Signed URL', { lengthMax: 8192, normalise: trim, check: httpUrl }),
      },
    }),
  },
})

/** One input. The target of a module may be left out, because nobody sees it. */
export function inputSource(description: string, { isModule = false } = {}): ObjectShape {
  const target = text('Absolute path inside the job', {
    lengthMax: 4096,
    normalise: normaliseJobPath,
    check: jobPath,
  })
  return object(description, {
    Source: sourceShape,
    Alias: text('Name of the input; unique when given', {
      lengthMax: 8192,
      normalise: trim,
      check: readableName,
    }),
    Target: isModule ? target : { required: 'missing artifact target', shape: target },
  })
}
