import { params, text, variant } from './shape.js'
import { endpointUrl, s3Bucket, s3Key, s3Region } from './value-rules.js'

const trim = (value: string): string => value.trim()

/** Where results go. An empty type means nowhere. */
export const publisherShape = variant('Where results are published; nothing when the type is empty', {
  types: {
    noop: params('Nowhere', {}),
    local: params('The node keeps the results and serves them', {}),
    ipfs: params('IPFS', {}),
    s3: params('An S3 bucket', {
      Bucket: { required: 'missing Bucket', shape: text('Bucket', { normalise: trim, check: s3Bucket }) },
      Key: {
        required: 'missing Key',
        shape: text('Key; may hold {jobID}, {executionID}, {nodeID}, {date} and {time}', {
          normalise: trim,
          check: s3Key,
        }),
      },
      Region: text('Region of the bucket', { normalise: trim, check: s3Region }),
      Endpoint: text('Endpoint URL of the service', { normalise: trim, check: endpointUrl }),
      Encoding: text('gzip or plain', { choices: ['gzip', 'plain'] }),
    }),
  },
})
