import Schema from 'typebox/schema'

interface Operation {
  responses: Record<string, { content?: Record<string, { schema?: object }> }>
}

export interface OpenApi {
  openapi: string
  info: Record<string, unknown>
  paths: Record<string, Record<string, Operation>>
}

/** Holds an answer against what the server's own document promises; returns what differs, empty when nothing does. */
export function deviations(
  document: OpenApi,
  method: string,
  path: string,
  answer: { status: number; type: string; json: unknown },
): string[] {
  const operation = operationOf(document, method, path)
  if (operation === undefined || !answer.type.startsWith('application/json')) return []
  const promised = operation.responses[answer.status === 200 ? '200' : 'default']
  const schema = promised?.content?.['application/json']?.schema
  if (schema === undefined) return [`${method} ${path}: no schema for status ${answer.status}`]
  // The version gate answers in a shape of its own, as Bacalhau does, and a refused login keeps its shape.
  if (answer.status !== 200 && isOwnShape(answer.json)) return []
  const [fits, errors] = Schema.Errors(schema, answer.json)
  return fits ? [] : errors.map((error) => `${method} ${path}: ${JSON.stringify(error)}`)
}

function operationOf(document: OpenApi, method: string, path: string): Operation | undefined {
  const segments = path.replace(/\?.*$/s, '').split('/')
  const matches = Object.entries(document.paths).filter(([template]) => {
    const parts = template.split('/')
    return (
      parts.length === segments.length &&
      parts.every((part, index) => part.startsWith('{') || part === segments[index])
    )
  })
  const [exact] = matches.sort(([a], [b]) => (a.match(/\{/g)?.length ?? 0) - (b.match(/\{/g)?.length ?? 0))
  return exact?.[1][method.toLowerCase()]
}

function isOwnShape(json: unknown): boolean {
  return typeof json === 'object' && json !== null && ('Authentication' in json || !('Status' in json))
}
