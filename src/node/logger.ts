import { pino } from 'pino'

/** What every room's logger looks like; pino's loggers are one. */
export interface NodeLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/**
 * JSON lines on standard error, so that standard output stays for data. Errors (`err`, `error`) are written with
 * message, stack and cause; fields that hold secrets are removed. `write` receives the lines instead, for tests.
 */
export function createLogger(level: string, write?: (line: string) => void): NodeLogger {
  return pino(
    {
      level,
      base: undefined,
      serializers: { err: pino.stdSerializers.err, error: pino.stdSerializers.err },
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
    write === undefined ? pino.destination({ dest: 2, sync: true }) : { write },
  )
}
