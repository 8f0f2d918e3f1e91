import { pino } from 'pino'

/** What every room's logger looks like; pino's loggers are one. */
export interface NodeLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** JSON lines on standard error, so that standard output stays for data. Fields that hold secrets are removed. */
export function createLogger(level: string): NodeLogger {
  return pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: [
          '*.password',
          '*.token',
          '*.authorization',
          '*.secret',
          'password',
          'token',
          'authorization',
          'secret',
        ],
        remove: true,
      },
    },
    pino.destination({ dest: 2, sync: true }),
  )
}
