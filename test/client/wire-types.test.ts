import type { Static } from 'typebox'
import { expectTypeOf, it } from 'vitest'
import type {
  ExecutionsAnswer,
  GetNodeAnswer,
  HistoryAnswer,
  JobAnswer,
  ResultsAnswer,
} from '../../src/api/schemas.js'
import type {
  Page,
  WireExecution,
  WireHistoryItem,
  WireJob,
  WireNode,
  WireSpecConfig,
} from '../../src/client/index.js'

/** Checked by the compiler: what the server's schemas promise is what the client's types say. */
it('gives the client the types that the schemas of the server promise', () => {
  expectTypeOf<Static<typeof JobAnswer>>().toExtend<WireJob>()
  expectTypeOf<WireJob>().toExtend<Static<typeof JobAnswer>>()
  expectTypeOf<Static<typeof ExecutionsAnswer>>().toExtend<Page<WireExecution>>()
  expectTypeOf<Page<WireExecution>>().toExtend<Static<typeof ExecutionsAnswer>>()
  expectTypeOf<Static<typeof HistoryAnswer>>().toExtend<Page<WireHistoryItem>>()
  expectTypeOf<Page<WireHistoryItem>>().toExtend<Static<typeof HistoryAnswer>>()
  expectTypeOf<Static<typeof ResultsAnswer>>().toExtend<Page<WireSpecConfig>>()
  expectTypeOf<Static<typeof GetNodeAnswer>['Node']>().toExtend<WireNode>()
})
