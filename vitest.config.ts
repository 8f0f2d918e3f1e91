import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/longest-first.js'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
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
  },
})
