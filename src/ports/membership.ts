/** A join token as an operator sees it: the secret is shown once, at its creation, and never kept. */
export interface NodeToken {
  id: string
  description: string
  createTimeMs: number
  /** 0 = never. */
  expireTimeMs: number
  /** How many nodes may join with it; 0 = any number. */
  usesMax: number
  uses: number
}

export interface NewNodeToken {
  /** At most 256 characters; absent = none. */
  description?: string
  /** Absent = a day; 0 = never. */
  expiresAfterMs?: number
  /** Absent = 1; 0 = any number. */
  usesMax?: number
}

/** Join tokens for machines. */
export interface NodeTokenService {
  /** Rejects with `api.bad_request`. */
  create(wanted: NewNodeToken): Promise<{ token: NodeToken; secret: string }>
  /** Those that can still be used, oldest first. */
  list(): Promise<NodeToken[]>
  /** Nodes that joined with it stay. Rejects with `node.token_not_found`. */
  revoke(id: string): Promise<void>
}
