import pc from 'picocolors'

/** Colours for a terminal that wants them; plain text for files and pipes, also in CI. */
export const colours = pc.createColors(
  process.stdout.isTTY && process.env.NO_COLOR === undefined && process.env.TERM !== 'dumb',
)
