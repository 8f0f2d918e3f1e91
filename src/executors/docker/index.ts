export { createDockerExecutor } from './docker-executor.js'
export type { DockerExecutor } from './docker-executor.js'
export type { IsolationReport } from './docker-network.js'
export type {
  CanaryOptions,
  DockerExecutorOptions,
  DockerLimits,
  DockerLog,
  FullNetworkOptions,
  RegistryOptions,
} from './options.js'
export { DEFAULT_LIMITS } from './options.js'
