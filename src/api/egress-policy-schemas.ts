import { Type } from 'typebox'

const Text = Type.String()
const Texts = Type.Array(Text)
const Count = Type.Integer({ minimum: 0 })

const Patterns = Type.Array(Type.String(), {
  maxItems: 10_000,
  description: 'Host patterns, as jobs name them; `@name` for a preset',
})

const Keys = Type.Array(Type.String(), {
  maxItems: 8,
  description: 'Public keys: as if the job were signed with them',
})

export const NetworkEgressAnswer = Type.Object({
  Version: Count,
  Limited: Type.Boolean({ description: 'False: the network restricts nothing. True: only what it allows' }),
  Allow: Texts,
  Deny: Texts,
})

export const PresetsAnswer = Type.Object({
  Presets: Type.Array(
    Type.Object({
      Name: Type.String({ description: 'Written `@name` among the domains of a job' }),
      Digest: Type.String({ description: 'Equal for equal lists' }),
      Domains: Texts,
    }),
  ),
})

export const CheckEgressBody = Type.Object({
  Domains: Type.Optional(Patterns),
  OutboundURLs: Type.Optional(Patterns),
  Engine: Type.Optional(Type.String({ description: 'Only nodes that can give networks to its jobs' })),
  SignedBy: Type.Optional(Keys),
  Job: Type.Optional(Type.Unknown({ description: 'A whole job instead: all that it needs counts' })),
})

export const CheckEgressAnswer = Type.Object({
  NetworkVersion: Count,
  Fitting: Type.Integer({ description: 'Nodes that would take the job' }),
  Domains: Type.Array(Type.Object({ Pattern: Text, Accepting: Count, Refusing: Count, Reason: Text })),
  Nodes: Type.Array(
    Type.Object({
      NodeID: Text,
      Fits: Type.Boolean(),
      Reasons: Type.Array(Type.Object({ Code: Text, Message: Text, Hint: Text })),
      Missing: Type.Array(
        Type.Object({ Pattern: Text, Owner: Type.Enum(['node', 'network']), Code: Text, Rule: Text }),
        { description: 'At most 100' },
      ),
      MissingCount: Count,
      Keys: Type.Array(Text, { description: 'Names of the keys that it trusts and the job is signed with' }),
    }),
  ),
})

export const ExplainEgressBody = Type.Object({
  Host: Type.String({ description: 'HOST, HOST:PORT or a URL' }),
  SignedBy: Type.Optional(Keys),
  Domains: Type.Optional(Patterns),
  OutboundURLs: Type.Optional(Patterns),
})

export const ExplainEgressAnswer = Type.Object({
  NodeID: Text,
  Host: Type.String({ description: 'Canonical' }),
  Oddities: Texts,
  PolicyGeneration: Count,
  Verdicts: Type.Array(
    Type.Object({
      Scheme: Type.Enum(['http', 'https']),
      Port: Count,
      Allowed: Type.Boolean(),
      Code: Text,
      Owner: Text,
      Rule: Text,
      Objections: Type.Array(Type.Object({ Code: Text, Owner: Text, Rule: Text, Change: Text })),
    }),
  ),
})
