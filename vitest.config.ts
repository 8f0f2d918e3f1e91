import { defineConfig } from 'vitest/config'
import { LongestFirst, TOGETHER } from './test/longest-first.js'

/** Files that share their workers: to load everything again for each of them takes longer than most of them run. */
const SHARING = [
  'test/{access,api,archive,client,config,model,publishers,sources,stores}/*.test.ts',
  'test/compute/{admission,capacity,output-index,output-log}.test.ts',
  'test/egress/{audit-file,decide,explain,host,host-pattern,learning,names,origin-pool,origin-tls,parsers}.test.ts',
  // The simulation takes longest of its room, and begins with the other long ones.
  'test/orchestrator/!(simulation).test.ts',
]

export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // How long something is waited for is no matter of what is tested; on a busy machine everything takes its time.
    expect: { poll: { timeout: 20_000 } },
    // For two cores: half of the time a file waits, for a container, a deadline or a process. More at once would only be slower
    // each, until something that has a deadline misses it.
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    pool: 'forks',
    globalSetup: ['test/global-setup.ts'],
    projects: [
      { extends: true, test: { name: 'apart', include: ['test/**/*.test.ts'], exclude: SHARING } },
      // No file of these may leave anything behind, or change the process it runs in for longer than a test.
      { extends: true, test: { name: TOGETHER, include: SHARING, isolate: false } },
    ],
  },
})
