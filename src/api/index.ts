export { openAuthorizer } from './authentication.js'
export type {
  AuthMethod,
  AuthOutcome,
  AuthRequirement,
  AuthorizationRequest,
  Authorizer,
} from './authentication.js'
export { challengeMethod } from './challenge-method.js'
export type { ChallengeOptions } from './challenge-method.js'
export type { ApiLogger, ServerIdentity } from './context.js'
export { errorBody } from './error-body.js'
export type { ErrorBody } from './error-body.js'
export { isLoopback } from './listen.js'
export type { ListenAddress, ListenOptions } from './listen.js'
export { createApiServer } from './server.js'
export type { ApiLimits, ApiServer, ApiServerOptions } from './server.js'
export { BACALHAU_VERSION } from './wire/index.js'
export type { ServerVersion } from './wire/index.js'
