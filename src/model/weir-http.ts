/** The import module by which WebAssembly programs ask for HTTP; docs/wasm-http.md describes it. */
export const WEIR_HTTP_MODULE = 'weir_http_v1'

/** What its functions answer. */
export const WEIR_HTTP_RESULT = {
  OK: 0,
  /** The job has no network. */
  DENIED: 1,
  /** The gateway is gone, or has ended the conversation: nothing leaves any more. */
  UNAVAILABLE: 2,
  /** No such request. */
  HANDLE: 3,
  /** Method, URL, a header or the length of the body is malformed, or not the program's to set. */
  INVALID: 4,
  /** The head of the request is larger than allowed. */
  TOO_LARGE: 5,
  /** As many requests are open as there may be. */
  TOO_MANY: 6,
  /** The call does not fit what was done before. */
  ORDER: 7,
  /** The other side ended early. */
  CUT: 8,
  /** A pointer or length outside of the memory. */
  FAULT: 9,
  /** The buffer is too small; the length that is needed was stored. */
  SMALL: 10,
  /** The time is over. */
  TIMEOUT: 11,
} as const

/** Name and type of each function. */
export const WEIR_HTTP_SIGNATURES: Readonly<Record<string, string>> = {
  request_open: 'i32,i32,i32,i32,i32,i32,i64,i32->i32',
  request_write: 'i32,i32,i32->i32',
  request_finish: 'i32->i32',
  response_head: 'i32,i32,i32,i32,i32->i32',
  response_read: 'i32,i32,i32,i32->i32',
  wait: 'i32,i32,i64,i32->i32',
  close: 'i32->i32',
}
