import { Type } from 'typebox'

const Text = Type.String()
const Count = Type.Integer({ minimum: 0 })

/** What an execution tried to reach, summed up. */
export const EgressSummary = Type.Object({
  Records: Count,
  Allowed: Count,
  Refused: Count,
  BytesUp: Count,
  BytesDown: Count,
  Destinations: Type.Array(
    Type.Object({
      Host: Text,
      Port: Count,
      Allowed: Count,
      Refused: Count,
      BytesUp: Count,
      BytesDown: Count,
      Code: Type.Optional(Text),
      Advice: Type.Optional(Text),
    }),
  ),
  DestinationsTruncated: Type.Boolean(),
  ChainHead: Text,
})

const Tallied = { host: Text, port: Count, allowed: Count, refused: Count, bytesUp: Count, bytesDown: Count }

/** What left an execution, signed. */
export const EgressReceipt = Type.Object(
  {
    type: Type.Literal('weir.egress-receipt/1'),
    nodeId: Text,
    publicKey: Text,
    jobId: Text,
    executionId: Text,
    network: Type.Enum(['none', 'http', 'full']),
    learning: Type.Optional(Type.Literal(true)),
    startTimeMs: Count,
    endTimeMs: Count,
    records: Count,
    chainHead: Text,
    allowed: Count,
    refused: Count,
    bytesUp: Count,
    bytesDown: Count,
    codes: Type.Record(Type.String(), Count),
    policyGenerations: Type.Array(Count),
    destinations: Type.Array(Type.Object(Tallied)),
    destinationsTruncated: Type.Boolean(),
    statement: Text,
    signature: Text,
  },
  { description: 'What left the execution, signed by its node; `weir audit verify` checks it' },
)

const ByteBounds = { BytesUpMax: Type.Optional(Count), BytesDownMax: Type.Optional(Count) }

/** What the gateway holds an execution to. */
export const EgressLimits = Type.Object(
  {
    BitsPerSecondUp: Count,
    BitsPerSecondDown: Count,
    ...ByteBounds,
    RequestsPerSecond: Count,
    ConnectionsMax: Count,
    HostConnectionsMax: Type.Optional(Count),
    HostNamesMax: Count,
    Budgets: Type.Optional(Type.Array(Type.Object({ Domain: Text, ...ByteBounds }))),
  },
  { description: 'What the gateway holds the execution to; what is absent is not bounded' },
)
