/** Collects rows, and prints them as they come or all at the end. */
export class Report {
  #rows = []
  #output

  constructor(output) {
    this.#output = output
  }

  /**
   * One measured thing: `values` by proxy, `goal` in words, `met` says whether weir's value reaches it (absent: there is
   * no goal, or nothing to compare with).
   */
  row(part, what, values, goal = '', met) {
    const row = {
      part,
      what,
      ...values,
      goal,
      met: goal === '' || met === undefined ? '' : met ? 'yes' : 'no',
    }
    this.#rows.push(row)
    if (this.#output === 'table')
      console.log(
        `${what.padEnd(58)} ${COLUMNS.map((name) => shown(values[name]).padStart(10)).join(' ')}  ${goal}${row.met === 'no' ? '  NOT MET' : ''}`,
      )
    else process.stderr.write(`${what}\n`)
  }

  begin() {
    if (this.#output === 'table')
      console.log(`${''.padEnd(58)} ${COLUMNS.map((name) => name.padStart(10)).join(' ')}  goal`)
  }

  end(about) {
    if (this.#output === 'json') console.log(JSON.stringify({ about, rows: this.#rows }, undefined, 2))
    if (this.#output !== 'markdown') return
    console.log(`${about}\n`)
    console.log(`| | ${COLUMNS.join(' | ')} | goal | met |\n|---|${'--:|'.repeat(COLUMNS.length)}---|---|`)
    for (const row of this.#rows)
      console.log(
        `| ${row.what} | ${COLUMNS.map((name) => shown(row[name])).join(' | ')} | ${row.goal} | ${row.met} |`,
      )
  }
}

const COLUMNS = ['weir', 'squid', 'tinyproxy']

function shown(value) {
  if (value === undefined || Number.isNaN(value)) return '–'
  if (typeof value !== 'number') return String(value)
  const size = Math.abs(value)
  return value.toFixed(size >= 1_000 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3)
}

export function median(values) {
  const sorted = values.filter((value) => value !== undefined && value >= 0).toSorted((a, b) => a - b)
  return sorted.length === 0 ? undefined : sorted[sorted.length >> 1]
}

export function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}
