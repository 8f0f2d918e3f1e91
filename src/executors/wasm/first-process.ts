import { readFileSync } from 'node:fs'

/**
 * The first process inside a sandbox, seen from outside.
 *
 * bubblewrap ties its life to bubblewrap's own, but only from a certain moment on: killed before, bubblewrap leaves it
 * waiting for ever. So it is killed by its own number, and only while that number still means the same process.
 */
export class FirstProcess {
  readonly pid: number
  readonly #startTime: string | undefined

  constructor(pid: number) {
    this.pid = pid
    this.#startTime = startTime(pid)
  }

  kill(): void {
    if (this.#startTime === undefined || startTime(this.pid) !== this.#startTime) return
    try {
      process.kill(this.pid, 'SIGKILL')
    } catch {
      // It has ended in this very moment.
    }
  }
}

/** Field 22 of /proc/PID/stat; the second field, a name in brackets, may contain blanks. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}
