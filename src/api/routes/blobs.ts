import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { WeirError } from '../../errors.js'
import type { Blob } from '../../ports/index.js'
import type { BodyDeadlines } from '../body-deadlines.js'
import type { ScopedBlobs } from '../scoped-blobs.js'
import { BlobAnswer, BlobPath, BlobsQuery, ListBlobsAnswer } from '../schemas.js'
import { rfc3339 } from '../wire/time.js'
import type { WireObject } from '../wire/index.js'
import { answers } from './answers.js'

const PATH = '/api/v1/orchestrator/blobs'
const MEDIA_TYPES = ['application/octet-stream', 'application/wasm']

interface Request {
  Params: { cid: string }
  Querystring: Static<typeof BlobsQuery>
}

/** Content by its hash: asked for before it is sent, sent once, streamed to the disk. */
export function blobRoutes(app: FastifyInstance, blobs: ScopedBlobs, deadlines: BodyDeadlines): void {
  const tags = ['blobs']

  app.get<Pick<Request, 'Querystring'>>(
    PATH,
    { schema: { tags, querystring: BlobsQuery, ...answers(ListBlobsAnswer) } },
    async ({ query }) => ({ NextToken: '', Items: blobs.list(namespaceOf(query)).map(blobToWire) }),
  )

  app.get<Request>(
    `${PATH}/:cid`,
    { schema: { tags, params: BlobPath, querystring: BlobsQuery, ...answers(BlobAnswer) } },
    async ({ params: { cid }, query }) => {
      const found = await blobs.find(namespaceOf(query), cid)
      if (found === undefined) throw notHere(namespaceOf(query), cid)
      return blobToWire(found)
    },
  )

  app.get<Request>(
    `${PATH}/:cid/content`,
    {
      config: { isStream: true },
      exposeHeadRoute: false,
      schema: {
        tags,
        params: BlobPath,
        querystring: BlobsQuery,
        ...answers(Type.String({ format: 'binary' }), 'application/octet-stream'),
      },
    },
    async ({ params: { cid }, query }, reply) => {
      const found = await blobs.open(namespaceOf(query), cid)
      if (found === undefined) throw notHere(namespaceOf(query), cid)
      return reply
        .type('application/octet-stream')
        .header('content-length', String(found.bytes))
        .send(found.stream)
    },
  )

  // In a scope of its own: only this route takes bodies that are not JSON.
  void app.register(async (scoped) => {
    scoped.addContentTypeParser(MEDIA_TYPES, (_request, payload, done) => done(null, payload))
    scoped.put<Request>(
      `${PATH}/:cid`,
      {
        config: { isStream: true },
        schema: {
          tags,
          params: BlobPath,
          querystring: BlobsQuery,
          consumes: ['application/octet-stream'],
          body: Type.String({ format: 'binary' }),
          ...answers(BlobAnswer),
        },
      },
      async ({ params: { cid }, query, body, raw }) => {
        const content = deadlines.upload(raw, contentOf(body))
        return blobToWire(await blobs.put(namespaceOf(query), cid, content))
      },
    )
  })
}

function namespaceOf({ namespace = '' }: Request['Querystring']): string {
  return namespace === '' ? 'default' : namespace
}

/** No body is empty content. */
function contentOf(body: unknown): Readable {
  if (body instanceof Readable) return body
  if (body === undefined) return Readable.from([])
  throw new WeirError('api.bad_request', 'Cannot store JSON as a blob', {
    hint: 'Send the bytes as the body, with the header Content-Type: application/octet-stream.',
  })
}

/** The same words whether another namespace holds it or nobody does. */
function notHere(namespace: string, cid: string): WeirError {
  return new WeirError('blob.not_found', `The namespace "${namespace}" holds no content ${cid}`, {
    hint: 'Upload the file it was made of: `weir wasm upload FILE`.',
  })
}

function blobToWire({ cid, bytes, usedMs }: Blob): WireObject {
  return { CID: cid, Bytes: bytes, LastUsed: rfc3339(usedMs) }
}
