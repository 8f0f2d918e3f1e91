// Derives the facts that the contract tests need (paths, parameters, names and types of fields) from a Swagger 2.0
// description of Bacalhau's API, which Bacalhau publishes under Apache-2.0. Descriptions, texts and examples stay out.
//
//     node scripts/derive-api-facts.mjs SWAGGER.json v1.5.2 > test/fixtures/api/bacalhau-v1.5.2.json
import { readFileSync } from 'node:fs'

/** Compact types: `string`, `integer`, `any`, `[]T` (list), `{}T` (map), `#Name` (definition). */
export function deriveFacts(swagger, version) {
  const operations = Object.entries(swagger.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => operationFacts(method, path, operation)),
  )
  const definitions = Object.fromEntries(
    Object.entries(swagger.definitions).map(([name, definition]) => [name, definitionFacts(definition)]),
  )
  return {
    source: `Derived by scripts/derive-api-facts.mjs from the Swagger description of Bacalhau ${version} (Apache-2.0)`,
    version,
    operations,
    definitions,
  }
}

function operationFacts(method, path, { parameters = [], responses = {} }) {
  const query = parameters
    .filter((parameter) => parameter.in === 'query')
    .map(({ name, type, required }) => [name, required === true ? `${type}!` : type])
  const body = parameters.find((parameter) => parameter.in === 'body')
  return {
    method: method.toUpperCase(),
    path,
    ...(query.length > 0 && { query: Object.fromEntries(query) }),
    ...(body !== undefined && { body: typeOf(body.schema) }),
    responses: Object.fromEntries(
      Object.entries(responses).map(([status, { schema }]) => [status, typeOf(schema)]),
    ),
  }
}

function definitionFacts(definition) {
  if (definition.enum !== undefined) return { enum: definition.enum, type: definition.type }
  const properties = Object.entries(definition.properties ?? {}).map(([name, schema]) => [
    name,
    typeOf(schema),
  ])
  return { properties: Object.fromEntries(properties) }
}

function typeOf(schema) {
  if (schema === undefined) return 'any'
  const reference = schema.$ref ?? schema.allOf?.[0]?.$ref
  if (reference !== undefined) return `#${reference.replace('#/definitions/', '')}`
  if (schema.type === 'array') return `[]${typeOf(schema.items)}`
  if (schema.type === 'object') {
    const { additionalProperties } = schema
    return typeof additionalProperties === 'object' ? `{}${typeOf(additionalProperties)}` : '{}any'
  }
  return schema.type ?? 'any'
}

/** One line per operation and definition, so that a change is readable. */
function write({ operations, definitions, ...head }) {
  const lines = (list) => list.map((item) => `    ${JSON.stringify(item)}`).join(',\n')
  const named = Object.entries(definitions)
    .map(([name, definition]) => `    ${JSON.stringify(name)}: ${JSON.stringify(definition)}`)
    .join(',\n')
  const start = JSON.stringify(head, null, 2).replace(/\n\}$/, '')
  return `${start},\n  "operations": [\n${lines(operations)}\n  ],\n  "definitions": {\n${named}\n  }\n}\n`
}

if (import.meta.filename === process.argv[1]) {
  const [file, version] = process.argv.slice(2)
  if (file === undefined || version === undefined) {
    process.stderr.write('usage: node scripts/derive-api-facts.mjs SWAGGER.json VERSION\n')
    process.exitCode = 2
  } else {
    process.stdout.write(write(deriveFacts(JSON.parse(readFileSync(file, 'utf8')), version)))
  }
}
