import { Type } from 'typebox'

const Text = Type.String()
const Texts = Type.Array(Text)
const Count = Type.Integer({ minimum: 0 })
const Patterns = Type.Array(Text, { maxItems: 10_000, description: 'Host patterns; `@name` for a preset' })
const Reason = Type.String({ maxLength: 1_000 })
const Places = Type.Array(Type.Object({ Pattern: Text, By: Text, Where: Text }))

export const NetworkListAnswer = Type.Object({
  Version: Count,
  Limited: Type.Boolean({ description: 'False: the network restricts nothing' }),
  File: Type.String({ description: 'What is edited' }),
  Patterns: Type.Array(Type.Object({ Pattern: Text, Where: Text, Comment: Text })),
})

export const EditNetworkListBody = Type.Object({
  Add: Type.Optional(Patterns),
  Remove: Type.Optional(Patterns),
  Comment: Type.Optional(Type.String({ maxLength: 256, description: 'Stands behind each new line' })),
  DryRun: Type.Optional(Type.Boolean({ description: 'Change nothing, only say what would change' })),
  Begin: Type.Optional(
    Type.Boolean({ description: 'Also where the network has no list yet: everything else is closed then' }),
  ),
})

export const EditNetworkListAnswer = Type.Object({
  Version: Count,
  DryRun: Type.Boolean(),
  Added: Texts,
  Removed: Texts,
  Present: Places,
  Covered: Places,
  Redundant: Places,
  Absent: Texts,
  StillAllowed: Places,
})

export const AccessRequestsQuery = Type.Object({
  state: Type.Optional(Type.String({ maxLength: 64, description: 'open, approved, denied or expired' })),
})

export const AccessRequestPath = Type.Object({ id: Text })

export const AccessRequestBody = Type.Object({
  Domains: Type.Array(Text, { description: 'Public host patterns, at most 100; `@name` for a preset' }),
  Reason,
})

const Request = Type.Object({
  ID: Text,
  State: Type.Enum(['open', 'approved', 'denied', 'expired']),
  Domains: Type.Array(Text, { description: 'Never change' }),
  CreatedAt: Text,
  ExpiresAt: Type.String({ description: 'When an open one ends by itself' }),
  Askers: Type.Array(Type.Object({ ID: Text, Name: Text, Reason: Text, At: Text }), {
    description: 'Who asks for it; others than oneself are shown to operators only',
  }),
  Decision: Type.Optional(
    Type.Object({
      By: Text,
      Reason: Text,
      At: Text,
      Added: Type.Array(Text, { description: 'To the list of the network' }),
      NetworkVersion: Count,
    }),
  ),
})

export const AccessRequestsAnswer = Type.Object({ Items: Type.Array(Request) })
export const AccessRequestAnswer = Type.Object({
  Request,
  New: Type.Boolean({ description: 'False: an open request for the same hosts was joined' }),
})

export const ApproveAccessBody = Type.Object({
  Domains: Type.Array(Text, { description: 'Exactly the hosts of the request, as they were shown' }),
  Reason: Type.Optional(Reason),
})
export const DenyAccessBody = Type.Object({ Reason })

export const DecidedAccessAnswer = Type.Object({
  Request,
  Accepting: Type.Integer({ minimum: 0, description: 'Nodes that take jobs with all of these hosts now' }),
  Refusing: Type.Array(
    Type.Object({
      NodeID: Text,
      Reasons: Texts,
      Missing: Type.Array(Type.Object({ Pattern: Text, Owner: Text, Code: Text })),
    }),
  ),
})
