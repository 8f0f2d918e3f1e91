import type { ObjectShape, Shape, VariantShape } from './shape.js'

/** A JSON Schema (2020-12) as plain JSON. */
export type JsonSchema = Record<string, unknown>

/**
 * The schema that a value of the shape satisfies after reading. On input keys match without regard to case and null
 * means absent, which JSON Schema cannot say.
 */
export function shapeJsonSchema(shape: Shape): JsonSchema {
  const description = shape.description === '' ? {} : { description: shape.description }
  switch (shape.kind) {
    case 'text': {
      const choices = shape.choices === undefined ? {} : { enum: [...shape.choices] }
      const fallback = shape.fallback === undefined ? {} : { default: shape.fallback }
      return { type: 'string', ...description, maxLength: shape.lengthMax, ...choices, ...fallback }
    }
    case 'integer':
      return { type: 'integer', ...description, minimum: shape.min, maximum: shape.max }
    case 'flag':
      return { type: 'boolean', ...description }
    case 'list':
      return { type: 'array', ...description, maxItems: shape.lengthMax, items: shapeJsonSchema(shape.of) }
    case 'map':
      return {
        type: 'object',
        ...description,
        maxProperties: shape.lengthMax,
        additionalProperties: shapeJsonSchema(shape.values),
      }
    case 'object':
      return { ...objectSchema(shape), ...description }
    case 'variant':
      return { ...variantSchema(shape), ...description }
    case 'alternative':
      return { ...description, anyOf: [shapeJsonSchema(shape.text), shapeJsonSchema(shape.object)] }
  }
}

function objectSchema(shape: ObjectShape): JsonSchema {
  const fields = Object.entries(shape.fields)
  const required = fields.filter(([, field]) => field.required !== undefined).map(([name]) => name)
  return {
    type: 'object',
    properties: Object.fromEntries(fields.map(([name, field]) => [name, shapeJsonSchema(field.shape)])),
    ...(required.length === 0 ? {} : { required }),
    ...(shape.closed === true ? { additionalProperties: false } : {}),
  }
}

/** Known types with their parameters, and any other type: it is placement that refuses those. */
function variantSchema(shape: VariantShape): JsonSchema {
  const known = Object.entries(shape.types).map(([name, params]) => ({
    type: 'object',
    properties: { Type: { const: name }, Params: shapeJsonSchema(params) },
    required: ['Type'],
  }))
  const other = {
    type: 'object',
    properties: {
      Type: { type: 'string', not: { enum: Object.keys(shape.types) } },
      Params: { type: 'object' },
    },
    ...(shape.missingType === undefined ? {} : { required: ['Type'] }),
  }
  return { anyOf: [...known, other] }
}
