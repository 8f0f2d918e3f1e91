export { execConfined } from './confine/exec-confined.js'
export type { ExecOptions, ExecResult } from './confine/exec-confined.js'
export { parsePolicy, readPolicyFile } from './policy-file.js'
export type { EgressPolicy } from './policy-file.js'
