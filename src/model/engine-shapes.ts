import { parseImageReference } from './image-reference.js'
import { inputSource } from './source-shapes.js'
import { list, map, params, text, variant } from './shape.js'
import {
  argumentLength,
  environmentName,
  environmentPair,
  jobPath,
  modulePath,
  normaliseJobPath,
  ruleOf,
} from './value-rules.js'
import type { AlternativeShape, ListShape } from './shape.js'

export const ARGUMENT_CHARACTERS_MAX = 256 * 1024
export const ENVIRONMENT_ENTRIES_MAX = 1000
const ARGUMENTS_MAX = 100_000
const IMPORT_MODULES_MAX = 100

const programArguments: ListShape = list(
  'Arguments of the program',
  text('One argument', { lengthMax: ARGUMENT_CHARACTERS_MAX, check: argumentLength }),
  ARGUMENTS_MAX,
)

const wasmModule: AlternativeShape = {
  kind: 'alternative',
  description:
    'A WebAssembly module: an input source, or the path inside the job of a module among the InputSources',
  text: text('Path of a module among the InputSources', { normalise: normaliseJobPath, check: modulePath }),
  object: inputSource('The module as an input source; alias and target may be left out', { isModule: true }),
}

/** How a task is run. Parameters that are not listed are refused: no option of an engine passes through. */
export const engineShape = variant('What runs the task', {
  missing: 'nil spec config',
  missingType: 'missing spec type',
  types: {
    docker: params('A container', {
      Image: {
        required: 'missing Image: the docker engine needs an image',
        shape: text('Image reference', {
          normalise: (image) => image.trim(),
          check: ruleOf(parseImageReference),
        }),
      },
      Entrypoint: list(
        'Replaces the entry point of the image; absent keeps it',
        programArguments.of,
        ARGUMENTS_MAX,
      ),
      Parameters: programArguments,
      EnvironmentVariables: list(
        'NAME=VALUE pairs',
        text('NAME=VALUE', { lengthMax: ARGUMENT_CHARACTERS_MAX, check: environmentPair }),
        ENVIRONMENT_ENTRIES_MAX,
      ),
      WorkingDirectory: text('Absolute path inside the container; absent keeps the one of the image', {
        normalise: normaliseJobPath,
        check: (path) => (path === '/' ? undefined : jobPath(path)),
      }),
    }),
    wasm: params('A WebAssembly program', {
      EntryModule: {
        required: 'missing EntryModule: the wasm engine needs a module',
        shape: wasmModule,
      },
      EntryPoint: text('Exported function that takes and returns nothing; _start when absent', {
        normalise: (name) => name.trim(),
      }),
      Parameters: programArguments,
      EnvironmentVariables: map('Environment of the program', {
        lengthMax: ENVIRONMENT_ENTRIES_MAX,
        checkKey: environmentName,
        values: text('Value', { lengthMax: ARGUMENT_CHARACTERS_MAX, check: argumentLength }),
      }),
      ImportModules: list('Modules that provide imports of the entry module', wasmModule, IMPORT_MODULES_MAX),
    }),
    noop: params('Does nothing; for tests', {}),
  },
})
