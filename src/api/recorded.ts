import type { FastifyRequest } from 'fastify'
import { isWeirError } from '../errors.js'
import type { AdminAction } from '../ports/index.js'
import type { ApiContext } from './context.js'

/** Records an administrative action and carries it out. The record comes first: what cannot be recorded is not done. */
export async function recorded<Result>(
  { adminLog }: Pick<ApiContext, 'adminLog'>,
  { caller }: FastifyRequest,
  what: Pick<AdminAction, 'action' | 'object' | 'details'>,
  work: () => Promise<Result>,
): Promise<Result> {
  const { principal, address } = caller ?? {}
  const line = {
    principal: principal?.id ?? '',
    principalName: principal?.name ?? '',
    address: address ?? '',
    ...what,
  }
  await adminLog?.append({ ...line, outcome: 'allowed' })
  try {
    return await work()
  } catch (error) {
    const reason = isWeirError(error) ? error.code : 'internal'
    await adminLog?.append({ ...line, outcome: 'failed', details: { ...what.details, reason } })
    throw error
  }
}
