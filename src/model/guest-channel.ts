/**
 * What the sandbox of a WebAssembly program and the egress gateway say to each other over the one descriptor that a program
 * with network has: many conversations (streams) at once, each of them what a client and a forward proxy say over a
 * connection.
 *
 * A frame is eight bytes, big endian: the stream (32 bits), the kind (8) and a number (24); after `DATA` so many bytes follow.
 * Either side may send `CHANNEL_WINDOW_BYTES` in a stream, and then as many as the other has said (`CREDIT`) that it took.
 */
export const FRAME = {
  /** Sandbox only: a new stream. Numbers count from 1, without gaps. */
  OPEN: 1,
  /** 1 to `FRAME_BYTES_MAX` bytes of the stream follow. */
  DATA: 2,
  /** Its sender sends nothing more in this stream. */
  END: 3,
  /** Its sender neither sends nor reads any more. The sandbox always sends it at last: until then the stream counts as open. */
  CLOSE: 4,
  /** The number says how many more bytes may be sent. */
  CREDIT: 5,
  /** The gateway answers with the same after so many milliseconds; only the newest counts. In place of a stream: any number. */
  ALARM: 6,
} as const

export type FrameKind = (typeof FRAME)[keyof typeof FRAME]

export const FRAME_HEAD_BYTES = 8
export const FRAME_BYTES_MAX = 64 * 1024
/** Bytes of one stream and direction that may be under way. */
export const CHANNEL_WINDOW_BYTES = 128 * 1024
/** Streams that one sandbox may have open. */
export const CHANNEL_STREAMS_MAX = 256
/** The largest number in a frame. */
export const FRAME_NUMBER_MAX = 0xff_ffff

export interface FrameHead {
  readonly stream: number
  readonly kind: number
  readonly number: number
}

/** Writes a head into `bytes` at `at`, which must have room for it. */
export function writeFrameHead(bytes: DataView, at: number, { stream, kind, number }: FrameHead): void {
  bytes.setUint32(at, stream)
  bytes.setUint32(at + 4, ((kind << 24) | number) >>> 0)
}

/** Reads a head that is there whole. */
export function readFrameHead(bytes: DataView, at: number): FrameHead {
  const second = bytes.getUint32(at + 4)
  return { stream: bytes.getUint32(at), kind: second >>> 24, number: second & FRAME_NUMBER_MAX }
}
