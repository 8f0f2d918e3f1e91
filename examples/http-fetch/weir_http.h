/*
 * HTTP for WebAssembly programs under weir: the import module weir_http_v1.
 *
 * A program has no sockets. It hands requests to the node, whose egress gateway judges them, connects to the host (for https
 * with TLS and a verified certificate of its own) and hands the response back. The job needs --network http --domain HOST.
 *
 * Every call blocks and returns one of the results below. docs/wasm-http.md describes each in full.
 */
#ifndef WEIR_HTTP_H
#define WEIR_HTTP_H

#include <stddef.h>
#include <stdint.h>

enum weir_http_result {
  WEIR_HTTP_OK = 0,
  WEIR_HTTP_DENIED = 1,      /* the job has no network */
  WEIR_HTTP_UNAVAILABLE = 2, /* the gateway is gone: nothing leaves any more */
  WEIR_HTTP_HANDLE = 3,      /* no such request */
  WEIR_HTTP_INVALID = 4,     /* method, URL, a header or the length of the body is malformed, or not yours to set */
  WEIR_HTTP_TOO_LARGE = 5,   /* the head of the request is larger than 16 KiB, or a line of it than 8 KiB */
  WEIR_HTTP_TOO_MANY = 6,    /* 64 requests are open: close some */
  WEIR_HTTP_ORDER = 7,       /* the call does not fit what was done before */
  WEIR_HTTP_CUT = 8,         /* the other side ended early */
  WEIR_HTTP_FAULT = 9,       /* a pointer or length outside of the memory */
  WEIR_HTTP_SMALL = 10,      /* the buffer is too small; the length that is needed was stored */
  WEIR_HTTP_TIMEOUT = 11     /* the time is over */
};

/* For body_bytes: a body of unknown length, as much as is written until weir_http_request_finish. */
#define WEIR_HTTP_STREAMED (-1)

/* A request, until it is closed. */
typedef uint32_t weir_http_handle;

#define WEIR_HTTP_IMPORT(name) __attribute__((import_module("weir_http_v1"), import_name(#name)))

/*
 * Sends the head of a request. `headers` are lines "Name: value", each ended by "\r\n" or "\n"; Host, Connection,
 * Content-Length, Transfer-Encoding and their like are written for you. `body_bytes` says how much body follows: so many
 * bytes, 0 for none, or WEIR_HTTP_STREAMED.
 */
WEIR_HTTP_IMPORT(request_open)
int32_t weir_http_request_open(const char *method, size_t method_len, const char *url, size_t url_len,
                               const char *headers, size_t headers_len, int64_t body_bytes,
                               weir_http_handle *handle);

/* Sends a piece of the body, all of it. WEIR_HTTP_CUT: nobody reads it any more; there may be a response all the same. */
WEIR_HTTP_IMPORT(request_write)
int32_t weir_http_request_write(weir_http_handle handle, const void *data, size_t len);

/* Says that the body is complete. Not needed where body_bytes was 0. */
WEIR_HTTP_IMPORT(request_finish)
int32_t weir_http_request_finish(weir_http_handle handle);

/*
 * Waits for the head of the response. Stores the status, and in `buffer` the headers as lines "Name: value\r\n", `*stored`
 * bytes. With WEIR_HTTP_SMALL status and needed length are stored: call it again with more room. A refusal by the gateway is a
 * response too: with the header Weir-Egress-Code, and a body that says why.
 */
WEIR_HTTP_IMPORT(response_head)
int32_t weir_http_response_head(weir_http_handle handle, char *buffer, size_t len, uint32_t *status,
                                size_t *stored);

/* Waits for more of the response's body, at most `len` bytes. 0 bytes stored: it is complete. */
WEIR_HTTP_IMPORT(response_read)
int32_t weir_http_response_read(weir_http_handle handle, void *buffer, size_t len, size_t *stored);

/*
 * Waits until one of the requests has something of its response, and stores its index. A negative time waits for ever; with
 * count 0 it is only a wait.
 */
WEIR_HTTP_IMPORT(wait)
int32_t weir_http_wait(const weir_http_handle *handles, size_t count, int64_t timeout_ms, uint32_t *index);

/* Gives the request up, or puts it away when it is done. Every request that was opened has to be closed. */
WEIR_HTTP_IMPORT(close)
int32_t weir_http_close(weir_http_handle handle);

#endif
