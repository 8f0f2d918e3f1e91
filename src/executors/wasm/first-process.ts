import { processStartTime } from '../../owner-process.js'

/**
 * The first process inside a sandbox, seen from outside.
 *
 * bubblewrap ties its life to bubblewrap's own, but only from a certain moment on: killed before, bubblewrap leaves it
 * waiting for ever. So it is killed by its own number, and only while that number still means the same process.
 */
export class FirstProcess {
  readonly pid: number
  readonly #startTime: string

  constructor(pid: number) {
    this.pid = pid
    this.#startTime = processStartTime(pid)
  }

  kill(): void {
    if (this.#startTime === '' || processStartTime(this.pid) !== this.#startTime) return
    try {
      process.kill(this.pid, 'SIGKILL')
    } catch {
      // It has ended in this very moment.
    }
  }
}
